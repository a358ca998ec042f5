// SPDX-License-Identifier: MIT
//
// memory_probe: questions about memory that the kernel answers without a signal.
//
//   make_present   is a page of the file behind this address? make one   MADV_POPULATE_WRITE, futex
//   is_readable    may I read eight bytes here?                          futex
//   StackWindow    what of a stack was asked about already
//
// A store to a hole of a full tmpfs is SIGBUS, a load from an unmapped page SIGSEGV. Both questions
// use system calls that every sandbox seen allows, need no descriptor and change nothing.
// Locks: none. Called from: scope_file.cc, backtrace.cc, module_table.cc, cfi_*.cc.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "diag/abi/layout.h"
#include "slab/base/compiler.h"

namespace slabscope::diag {

// Makes the pages [p, p + bytes) of a shared mapping present; p and bytes are page-aligned. False:
// the file system is full or memory is short.
[[nodiscard]] bool make_present(void* p, size_t bytes);

// The same by one futex operation a page, for kernels before 5.14. Contents are unchanged.
[[nodiscard]] SC_COLD bool make_present_by_futex(void* p, size_t bytes);

// Whether eight bytes at `address` can be read.
[[nodiscard]] bool is_readable(uintptr_t address);

// One past what a program's addresses may be, on x86-64 without LA57's fifth level.
inline constexpr uintptr_t kAddressEnd = uintptr_t{1} << 47U;

// Stack that was seen to be readable, in whole pages. It grows while a walk asks for more, over a
// frame with large arrays too, and moves where a walk goes to another stack.
class StackWindow {
 public:
  constexpr StackWindow() = default;
  // The caller knows [low, high) to be readable now.
  constexpr StackWindow(uintptr_t low, uintptr_t high)
      : low_((low + abi::kPageBytes - 1) & ~kPageMask), high_(high & ~kPageMask) {
    if (low_ >= high_)
      low_ = high_ = 0;
  }

  [[nodiscard]] std::optional<uintptr_t> load(uintptr_t address) {
    if (address % sizeof(uintptr_t) != 0)
      return std::nullopt;
    if (address - low_ >= high_ - low_ && !extend(address))
      return std::nullopt;
    // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): address 0 lies in no window.
    return *reinterpret_cast<const uintptr_t*>(address);
  }

  [[nodiscard]] uintptr_t low() const { return low_; }
  [[nodiscard]] uintptr_t high() const { return high_; }

 private:
  static constexpr uintptr_t kPageMask = abi::kPageBytes - 1;
  static constexpr uintptr_t kMostGap = uintptr_t{64} << 10;  // a page costs a system call, once

  bool extend(uintptr_t address);

  uintptr_t low_ = 0;
  uintptr_t high_ = 0;
};

}  // namespace slabscope::diag
