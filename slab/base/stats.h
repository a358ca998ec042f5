// SPDX-License-Identifier: MIT
//
// The numbers that the allocator keeps of itself, and where it keeps them.
//
// slab/ writes them through pointers. They start at private storage; preload points them into the
// scope file before the first allocation, so that a reader outside sees each step as it is made.
// All additions are relaxed atomics on slow paths: a number is exact, several together are not a
// snapshot. The field order is the scope file's (preload/watch.cc compares).

#pragma once

#include <cstdint>

#include "slab/base/compiler.h"
#include "slab/base/sole_thread.h"

namespace slabscope {

// Of the whole heap. Bytes unless said otherwise.
struct HeapStats {
  uint64_t mapped_slab_bytes;
  uint64_t mapped_large_bytes;
  uint64_t mapped_free_bytes;
  uint64_t mapped_metadata_bytes;
  uint64_t free_dirty_bytes;
  uint64_t released_bytes;
  uint64_t release_runs;
  uint64_t segments;
  uint64_t huge_mapped;
  uint64_t failures_no_memory;
  uint64_t failures_too_large;
  uint64_t errors_double_free;
  uint64_t errors_invalid_free;
  uint64_t foreign_frees;
  uint64_t thread_caches_reclaimed;
  uint64_t door_visits;
  uint64_t dropped_threads;
  uint64_t lock_waits;
  uint64_t lock_sleeps;
};

// Of one cache.
struct CacheStats {
  uint64_t slabs;
  uint64_t slabs_partial;
  uint64_t slabs_empty;
  uint64_t objects_out;
  uint64_t slow_allocations;
  uint64_t remote_frees;
  uint64_t slabs_grown;
  uint64_t slabs_released;
  uint64_t peak_active_objects;
  uint64_t live_bytes;
};

// Of one group.
struct GroupStats {
  uint64_t threads;      // that are in it now
  uint64_t held_bytes;   // in its slabs and large blocks
  uint64_t limit_bytes;  // 0: none
  uint64_t refused;      // allocations for which the limit left no room
  uint64_t overflowed;   // threads that share it because there was no room for a group of theirs
};

// Of one thread and cache: what the fast paths count.
struct CounterPair {
  uint64_t allocs;
  uint64_t frees;
};

extern constinit HeapStats* g_heap_stats;

SC_INLINE void stat_add(uint64_t& field, uint64_t value) {
  add_relaxed(field, value);
}
SC_INLINE void stat_sub(uint64_t& field, uint64_t value) {
  add_relaxed(field, ~value + 1);
}
SC_INLINE uint64_t stat_get(const uint64_t& field) {
  return __atomic_load_n(&field, __ATOMIC_RELAXED);
}
// In slabs and large blocks, what is free in them included.
SC_INLINE uint64_t heap_bytes_in_use() {
  return stat_get(g_heap_stats->mapped_slab_bytes) + stat_get(g_heap_stats->mapped_large_bytes);
}
SC_INLINE void stat_set(uint64_t& field, uint64_t value) {
  __atomic_store_n(&field, value, __ATOMIC_RELAXED);
}

}  // namespace slabscope
