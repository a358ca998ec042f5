// SPDX-License-Identifier: MIT
//
// Memory for the allocator's own records: zeroed, never given back, never from the heap it serves.
//
// A bump pointer over 256 KiB mappings. What is carved here lives as long as the process, so that a
// stale pointer to a record reads old data and never faults; types that come and go (Slab) keep a
// free list of their own. Locks: one leaf lock of its own, held for a few instructions or one mmap.

#pragma once

#include <cstddef>

namespace slabscope {

// `bytes` of zeroed memory, aligned to 64; nullptr when the kernel has none.
[[nodiscard]] void* meta_allocate(size_t bytes);

// Address space taken so far, in bytes.
size_t meta_mapped_bytes();

// Each mapping begins with this; they are chained, so that a reader outside can tell them from the
// program's memory.
struct alignas(64) MetaBlock {
  MetaBlock* next;  // the one mapped before
  size_t bytes;
};
// Where the newest one is named.
MetaBlock* const* meta_newest_block();

void meta_lock_for_fork();
void meta_unlock_after_fork();
void meta_reset_after_fork();

}  // namespace slabscope
