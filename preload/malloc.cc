// SPDX-License-Identifier: MIT
//
// libc's entry points, one line each where one will do.
//
// What the standards and glibc 2.36 ask: errno is ENOMEM on every failure and untouched by success
// and by free(); realloc(p, 0) frees and returns NULL; sizes above PTRDIFF_MAX are refused.

#include <errno.h>

#include <cstddef>
#include <cstdint>

#include "slab/base/bits.h"
#include "slab/heap.h"
#include "slab/pages/vm.h"

namespace slabscope {
namespace {

// nullptr with errno set, or the block.
SC_INLINE void* or_enomem(void* block) {
  if (SC_UNLIKELY(block == nullptr))
    errno = ENOMEM;
  return block;
}

// glibc's memalign takes any alignment and rounds it up to a power of two.
SC_NOINLINE void* aligned(size_t alignment, size_t size) {
  if (alignment > SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return nullptr;
  }
  while (!is_power_of_two(alignment))
    alignment = (alignment | (alignment - 1)) + 1;
  if (size > Config::kMaxRequest || alignment > Config::kMaxRequest - size)
    return or_enomem(nullptr);
  return or_enomem(allocate_aligned(alignment, size));
}

SC_NOINLINE void* malloc_slow(size_t size) {
  return or_enomem(allocate_slow(size));
}

}  // namespace
}  // namespace slabscope

using slabscope::align_up;

extern "C" {

SC_EXPORT void* malloc(size_t size) {
  void* object = slabscope::pop_listed(size);
  return SC_LIKELY(object != nullptr) ? object : slabscope::malloc_slow(size);
}

SC_EXPORT void free(void* block) {
  slabscope::deallocate(block);
}
SC_EXPORT SC_COLD void cfree(void* block) {
  slabscope::deallocate(block);
}
SC_EXPORT void free_sized(void* block, size_t) {
  slabscope::deallocate(block);
}
SC_EXPORT void free_aligned_sized(void* block, size_t, size_t) {
  slabscope::deallocate(block);
}

SC_EXPORT void* calloc(size_t count, size_t size) {
  size_t bytes = 0;
  if (SC_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
    return slabscope::or_enomem(nullptr);
  }
  return slabscope::or_enomem(slabscope::allocate_zeroed(bytes));
}

SC_EXPORT void* realloc(void* block, size_t size) {
  if (block == nullptr)
    return malloc(size);
  if (size == 0) {
    slabscope::deallocate(block);
    return nullptr;
  }
  return slabscope::or_enomem(slabscope::reallocate(block, size));
}

SC_EXPORT void* reallocarray(void* block, size_t count, size_t size) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes))
    return slabscope::or_enomem(nullptr);
  return realloc(block, bytes);
}

SC_EXPORT int posix_memalign(void** result, size_t alignment, size_t size) {
  if (!slabscope::is_power_of_two(alignment) || alignment % sizeof(void*) != 0)
    return EINVAL;
  void* block = slabscope::pop_aligned(alignment, size);
  if (SC_UNLIKELY(block == nullptr)) {
    block = slabscope::aligned(alignment, size);
    if (block == nullptr)
      return ENOMEM;
  }
  *result = block;
  return 0;
}

SC_EXPORT void* aligned_alloc(size_t alignment, size_t size) {
  if (!slabscope::is_power_of_two(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  void* block = slabscope::pop_aligned(alignment, size);
  return SC_LIKELY(block != nullptr) ? block : slabscope::aligned(alignment, size);
}

SC_EXPORT void* memalign(size_t alignment, size_t size) {
  return slabscope::aligned(alignment == 0 ? 1 : alignment, size);
}

SC_EXPORT void* valloc(size_t size) {
  return slabscope::aligned(slabscope::vm::kOsPage, size);
}

SC_EXPORT void* pvalloc(size_t size) {
  const size_t rounded = align_up(size, slabscope::vm::kOsPage);
  if (rounded < size)
    return slabscope::or_enomem(nullptr);
  return slabscope::aligned(slabscope::vm::kOsPage,
                            rounded == 0 ? slabscope::vm::kOsPage : rounded);
}

SC_EXPORT size_t malloc_usable_size(void* block) {
  return slabscope::usable_size(block);
}

}  // extern "C"
