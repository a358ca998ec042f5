// SPDX-License-Identifier: MIT
//
// Inspect: a read-only walk over the caches; the only view of the heap that others need.
//
// Every number is exact when the process is quiet; while threads run, each is read at its own
// moment. Nothing is locked, nothing allocated.

#pragma once

#include <cstddef>
#include <cstdint>

namespace slabscope {

struct CacheView {
  unsigned id;
  uint32_t object_size;  // 0: large blocks
  uint64_t allocations;
  uint64_t active_objects;
  uint64_t active_bytes;
  uint64_t slabs;
};

struct HeapTotals {
  size_t active_bytes;
  size_t slab_bytes;    // in slabs
  size_t large_bytes;   // in large blocks in use
  size_t large_blocks;  // how many these are
  size_t free_bytes;    // in free runs and cached mappings
};

// Calls visit(view, context) for each cache that was ever used, by id.
void for_each_cache(void (*visit)(const CacheView& cache, void* context), void* context);

HeapTotals heap_totals();

}  // namespace slabscope
