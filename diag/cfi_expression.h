// SPDX-License-Identifier: MIT
//
// cfi_expression: a frame's registers, the stack that holds them, and expressions over both.
//
//   RegisterSet ── breg ──►┌──────────────┐
//   StackWindow ── deref ─►│ 8-deep stack │─► value    PLT stubs, realigned frames, __restore_rt
//                          └──────────────┘
//
// Invariants
//   1. No word is read from a page that was not given as readable or probed.    (junk test)
//   2. At most kMaxOperations run, on a stack that is checked at each push and pop.   (fuzz test)
// Locks: none. Called from: cfi_walk.cc, on whatever stack the program runs.
// Source: DWARF 5, 2.5 and 7.7.1. Left out, because .eh_frame holds none: division, and typed and
// location operations.

#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "diag/abi/layout.h"
#include "diag/cfi_bytes.h"
#include "diag/cfi_rules.h"

namespace slabscope::diag {

// Stack that was seen to be readable, in whole pages. It grows page by page while a walk asks for
// more, and moves where a walk goes to another stack.
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

  bool extend(uintptr_t address);

  uintptr_t low_ = 0;
  uintptr_t high_ = 0;
};

// The registers of one frame, by DWARF number; a call loses those that no callee keeps.
struct RegisterSet {
  std::array<uintptr_t, kCfiRegisters> value{};
  uint32_t known = 0;

  [[nodiscard]] bool knows(uint64_t reg) const {
    return reg < kCfiRegisters && (known >> reg & 1U) != 0;
  }
  void set(unsigned reg, uintptr_t to) {
    value[reg] = to;
    known |= 1U << reg;
  }
  void forget(unsigned reg) { known &= ~(1U << reg); }
};

// The result of the expression at `bytes`: its length, then its operations. `initial` lies on the
// stack when it begins.
[[nodiscard]] std::optional<uintptr_t> evaluate(ByteRange bytes, const RegisterSet& registers,
                                                StackWindow& stack,
                                                std::optional<uintptr_t> initial);

}  // namespace slabscope::diag
