// SPDX-License-Identifier: MIT
//
// Heap: the allocator as one object; what preload/ turns into malloc and operator new.
//
//   allocate(size) ─ fast: pop ───────────────────────────────► block
//        └─ slow: no list, > 1 KiB … ─► ThreadCache / large.h ─► block or nullptr
//   deallocate(p)  ─ fast: push
//        └─ slow: list full, id 0 ─► tracked object | large block | foreign block | panic
//
// Failures are nullptr; errno is the caller's matter. Every block is 16-byte aligned. Sizes up to
// PTRDIFF_MAX are tried, larger ones refused. Any thread, at any time after relocation.

#pragma once

#include <cstddef>

#include "slab/base/compiler.h"
#include "slab/cache/thread_cache.h"

namespace slabscope {

enum class Fill : unsigned char { kAsIs, kZero };

// While one lives, what its thread allocates (up to kOwnObjectBytes each) counts as the shim's own,
// under kOwnId, and is not tracked: for the constructor, which loads a library for us.
class OwnScope {
 public:
  OwnScope();
  ~OwnScope();
  OwnScope(const OwnScope&) = delete;
  OwnScope& operator=(const OwnScope&) = delete;

 private:
  bool was_on_;
};

// The slow ends of the functions below.
SC_NOINLINE void* allocate_slow(size_t size);
SC_NOINLINE void deallocate_slow(void* block);

// An object off this thread's list for its class; nullptr if there is none, or for a large block.
SC_INLINE void* pop_listed(size_t size) {
  if (SC_LIKELY(size <= Config::kFineMax))
    return pop_fast(bin_at(t_malloc_bins, SizeClass::fine_offset(size)));
  if (size <= Config::kSmallMax)
    return pop_fast(bin_at(t_malloc_bins, SizeClass::coarse_id(size) * sizeof(Bin)));
  return nullptr;
}

// The same with `alignment`, a power of two: slabs begin on boundaries of a chunk, so the objects
// of a fine class whose size is a multiple of it are aligned. nullptr for all but fine classes.
SC_INLINE void* pop_aligned(size_t alignment, size_t size) {
  const size_t multiple = alignment < Config::kGranule ? Config::kGranule : alignment;
  if (SC_UNLIKELY(size > Config::kFineMax))
    return nullptr;
  const size_t rounded = (size + multiple - 1) & ~(multiple - 1);
  if (SC_UNLIKELY(rounded > Config::kFineMax))
    return nullptr;
  return pop_fast(bin_at(t_malloc_bins, SizeClass::fine_offset(rounded)));
}

SC_INLINE void* allocate(size_t size) {
  void* object = pop_listed(size);
  return SC_LIKELY(object != nullptr) ? object : allocate_slow(size);
}

SC_INLINE void deallocate(void* block) {
  if (SC_UNLIKELY(!push_fast(block)))
    deallocate_slow(block);
}

// `size` bytes, all zero.
[[nodiscard]] void* allocate_zeroed(size_t size);

// Aligned to `alignment`, a power of two.
[[nodiscard]] void* allocate_aligned(size_t alignment, size_t size);

// Bytes that may be used of a block; 0 for nullptr. Panics on a pointer that is no block's start.
[[nodiscard]] size_t usable_size(void* block);

// The block (nullptr: a new one) with room for `size` > 0 bytes, its contents kept up to the
// smaller size; nullptr without memory, and then the block is as before.
[[nodiscard]] void* reallocate(void* block, size_t size);

// The calling thread's lists, empty slabs and free runs go back. Returns the bytes the kernel got.
size_t trim();

// Around fork(): all locks, in order; then let go, or made anew in the child.
void heap_lock_for_fork();
void heap_unlock_after_fork();
void heap_reset_after_fork();

}  // namespace slabscope
