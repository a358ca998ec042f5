// SPDX-License-Identifier: MIT
//
// Which object caches are debugged, said from outside: SLABSCOPE_DEBUG, in the words of Linux's
// slab_debug=.
//
//   FZ,conn*,session;P;-,handle      blocks of  letters[,name[,name …]]
//
// The first block that names a cache decides for it; a name may end in `*`. For all others the last
// block without names does. No letters stand for all of them, `-` for none. What a cache asks for
// itself it keeps.

#pragma once

#include <cstdint>

namespace slabscope {

// The flags (ObjectCache::kRedZone …) that `spec` adds to those of a cache of that name.
[[nodiscard]] uint32_t debug_flags_for(const char* spec, const char* name);
// What of `spec` has no effect, as a text for the user; nullptr: nothing.
[[nodiscard]] const char* debug_spec_problem(const char* spec);

}  // namespace slabscope
