// SPDX-License-Identifier: MIT
//
// Large blocks: allocations above the largest size class.
//
//   32 KiB < size < 32 MiB   a page run of the page heap; free runs of any origin serve it
//   size >= 32 MiB           a mapping of its own, found again through a hash table; the last few
//                            that were freed wait in a cache for the decay time
//
// Both count under their owner: kLargeId, or a group's child of it. The first chunk of a run has
// kLargeId in the map, whose bin never has room, so that frees come to the slow path; mappings lie
// outside the window and come there too.
//
// Invariants
//   1. Exactly one free of a block wins the step kLarge -> kNone (runs) or takes its entry out of
//      the table (mappings); any other is a double free and panics.
//   2. mapped_large_bytes is the sum of large_size() over all live blocks.
// Locks: the page heap's; or the huge table's, which is a leaf but for the meta allocator's.

#pragma once

#include <cstddef>
#include <cstdint>

#include "slab/base/config.h"
#include "slab/cache/huge_table.h"

namespace slabscope {

struct LargeBlock {
  void* address;  // nullptr: no memory
  bool zeroed;    // every byte is zero
};

// At least `bytes` (> 0), aligned to `alignment` (a power of two), of `owner`, which is ready. Not
// counted as an allocation.
[[nodiscard]] LargeBlock large_allocate(size_t bytes, size_t alignment,
                                        unsigned owner = Config::kLargeId);

// Usable bytes of a live large block; 0 if `block` is not the start of one.
size_t large_size(const void* block);

// Frees the block. Returns its record number (0: not tracked) and its owner. Panics on a double
// free; false if no large block ever started at `block`.
struct LargeReleased {
  bool found;
  uint32_t record;
  unsigned owner;
};
LargeReleased large_release(void* block);

// The same block with room for `bytes`, in place or with its pages (not its bytes) moved elsewhere;
// nullptr if that needs a copy.
[[nodiscard]] void* large_resize(void* block, size_t bytes);

uint32_t large_record(const void* block);
void large_set_record(const void* block, uint32_t record);

// Unmaps cached mappings that were freed `decay_ms` or longer before `now_ms`. Returns the bytes.
size_t large_decay(uint32_t now_ms, uint32_t decay_ms);

// A freed mapping that waits to be used again.
struct CachedMapping {
  void* address;  // nullptr: unused
  size_t bytes;
  uint32_t freed_ms;
};

// Where the tables of mappings lie, for readers outside.
struct LargeTables {
  const HugeTable* huge;
  const CachedMapping* cached;
  uint32_t cached_entries;
};
LargeTables large_tables();

void large_lock_for_fork();
void large_unlock_after_fork();
void large_reset_after_fork();

}  // namespace slabscope
