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

#include "diag/cfi_bytes.h"
#include "diag/cfi_rules.h"
#include "diag/memory_probe.h"

namespace slabscope::diag {

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
