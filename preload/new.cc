// SPDX-License-Identifier: MIT
//
// operator new and delete, all forms, without a C++ runtime of our own.
//
// The standard: on failure call the new-handler and try again; without one throw std::bad_alloc.
// Both belong to the program's libstdc++: their symbols are weak here, present when the program is
// C++ and null in a C program, where nobody calls operator new. (With libc++ there is no function
// that throws bad_alloc for us: then the message below and abort().)

#include <cstddef>
#include <new>

#include "preload/new_handler.h"
#include "slab/base/panic.h"
#include "slab/heap.h"

// std::get_new_handler() and std::__throw_bad_alloc(), as libstdc++ mangles them.
extern "C" SC_WEAK std::new_handler _ZSt15get_new_handlerv();
extern "C" SC_WEAK void _ZSt17__throw_bad_allocv();

namespace slabscope {
namespace {

enum class OnFailure : unsigned char { kThrow, kReturnNull };

// No memory: handlers until there is some, or none is left.
SC_COLD void* retry(size_t size, size_t alignment, OnFailure on_failure) {
  while (_ZSt15get_new_handlerv != nullptr) {
    const std::new_handler handler = _ZSt15get_new_handlerv();
    if (handler == nullptr)
      break;
    // It frees something, installs another handler, throws, or ends the program.
    if (on_failure == OnFailure::kThrow) {
      handler();
    } else if (!handler_returned(handler)) {
      return nullptr;
    }
    void* block = allocate_aligned(alignment, size);
    if (block != nullptr)
      return block;
  }
  if (on_failure == OnFailure::kReturnNull)
    return nullptr;
  if (_ZSt17__throw_bad_allocv != nullptr)
    _ZSt17__throw_bad_allocv();
  panic("out of memory in operator new, for bytes:", reinterpret_cast<void*>(size),
        "and no std::bad_alloc to throw");
}

SC_INLINE void* new_block(size_t size, OnFailure on_failure) {
  void* block = allocate(size);
  return SC_LIKELY(block != nullptr) ? block : retry(size, Config::kGranule, on_failure);
}

SC_NOINLINE void* new_aligned_slow(size_t size, size_t alignment, OnFailure on_failure) {
  void* block = allocate_aligned(alignment, size);
  return block != nullptr ? block : retry(size, alignment, on_failure);
}

SC_INLINE void* new_aligned(size_t size, std::align_val_t alignment, OnFailure on_failure) {
  const auto boundary = static_cast<size_t>(alignment);
  void* block = pop_aligned(boundary, size);
  return SC_LIKELY(block != nullptr) ? block : new_aligned_slow(size, boundary, on_failure);
}

}  // namespace
}  // namespace slabscope

using slabscope::deallocate;
using slabscope::new_aligned;
using slabscope::new_block;
using slabscope::OnFailure;

SC_EXPORT void* operator new(size_t size) {
  return new_block(size, OnFailure::kThrow);
}
SC_EXPORT void* operator new[](size_t size) {
  return new_block(size, OnFailure::kThrow);
}
SC_EXPORT void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return new_block(size, OnFailure::kReturnNull);
}
SC_EXPORT void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return new_block(size, OnFailure::kReturnNull);
}
SC_EXPORT void* operator new(size_t size, std::align_val_t alignment) {
  return new_aligned(size, alignment, OnFailure::kThrow);
}
SC_EXPORT void* operator new[](size_t size, std::align_val_t alignment) {
  return new_aligned(size, alignment, OnFailure::kThrow);
}
SC_EXPORT void* operator new(size_t size, std::align_val_t alignment,
                             const std::nothrow_t&) noexcept {
  return new_aligned(size, alignment, OnFailure::kReturnNull);
}
SC_EXPORT void* operator new[](size_t size, std::align_val_t alignment,
                               const std::nothrow_t&) noexcept {
  return new_aligned(size, alignment, OnFailure::kReturnNull);
}

SC_EXPORT void operator delete(void* block) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete[](void* block) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete(void* block, size_t) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete[](void* block, size_t) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete(void* block, const std::nothrow_t&) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete[](void* block, const std::nothrow_t&) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete(void* block, std::align_val_t) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete[](void* block, std::align_val_t) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete(void* block, size_t, std::align_val_t) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete[](void* block, size_t, std::align_val_t) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete(void* block, std::align_val_t, const std::nothrow_t&) noexcept {
  deallocate(block);
}
SC_EXPORT void operator delete[](void* block, std::align_val_t, const std::nothrow_t&) noexcept {
  deallocate(block);
}
