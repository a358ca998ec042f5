// SPDX-License-Identifier: MIT
//
// cfi_object: the loaded object that holds a pc, and the rules it has for it.
//
//   pc ─► _dl_find_object ─► CfiObject ─► segment of its index ─► find_function ─► rules_at
//                                │                                                   │
//                                └── identity ──► cache_key(pc, identity) ◄── pack ──┘
//
// Locks: none; async-signal-safe. Called from: cfi_walk.cc, quick_walk.cc.
// Limit: a library that another thread unloads while its frames are walked is a fault here as it
// would be at the return into it.

#pragma once

#include <cstdint>
#include <optional>

#include "diag/cfi_bytes.h"
#include "diag/cfi_cache.h"
#include "diag/cfi_rules.h"
#include "diag/table_pages.h"
#include "slab/base/compiler.h"

struct link_map;

namespace slabscope::diag {

// A loaded object that has .eh_frame_hdr.
struct CfiObject {
  ByteRange mapping;
  uintptr_t index = 0;    // its .eh_frame_hdr
  uint64_t identity = 0;  // differs between two objects at one address
  const link_map* loaded = nullptr;
};

// Of an object, the part that holds its tables.
struct CfiSegment {
  ByteRange bytes;
  uint32_t flags = 0;  // PF_*; 0: not known
};

// The object whose mapping holds `pc`; one with an empty mapping if there is none.
[[nodiscard]] SC_NOINLINE CfiObject find_object(uintptr_t pc);

// The segment of `object` that holds its index: between segments there may be no memory.
[[nodiscard]] SC_NOINLINE CfiSegment segment_of_index(const CfiObject& object);

struct CfiPlace {
  std::optional<CfiFunction> function;
  std::optional<CfiRow> row;      // none: there are no rules
  PackedRow packed = kNotPacked;  // kNotPacked for the frames of signals, too
};

// What .eh_frame says of `pc`; what can be packed is remembered under `key`, cache_key(pc, …).
// Inline: on a small stack a copy of its result would be a tenth of what a walk takes.
SC_INLINE void find_rules(const CfiObject& object, uintptr_t pc, uint64_t key, CfiPlace& place) {
  const CfiSegment segment = segment_of_index(object);
  place.function = find_function(segment.bytes, object.index, pc);
  if (place.function)
    place.row = rules_at(*place.function, pc);
  tables_were_read(object, segment);
  if (!place.row || place.function->signal_frame)
    return;
  place.packed = pack(*place.row);
  if (place.packed != kNotPacked)
    cache_store(key, place.packed);
}

}  // namespace slabscope::diag
