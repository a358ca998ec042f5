// SPDX-License-Identifier: MIT
//
// Attributes of an object cache: the files of /sys/kernel/slab/CACHE, as text.
//
//   show ─► inside(cache) ─► "10240 N0=10240\n"        ENODEV once the cache is removed;
//   store ─► inside(cache) ─► shrink, min_partial …    removal waits for who is inside
//
// Names and formats are Linux's, to the byte, so that its tools read them. What has no meaning here
// says what Linux says where it is switched off. Numbers by node are all node 0's: slabscope does
// not tell nodes apart. Of an alias they are those of what it shares, as behind sysfs' link.
// Locks: none while inside; a store runs what the program's own calls run.

#pragma once

#include <cstddef>

#include "slab/cache/object_cache.h"

namespace slabscope {

// The length of the text (at most `size` bytes of it are written, a NUL included), or -errno.
[[nodiscard]] int show_attribute(ObjectCache& cache, const char* name, char* buffer, size_t size);
// 0 or -errno.
[[nodiscard]] int store_attribute(ObjectCache& cache, const char* name, const char* text);

}  // namespace slabscope
