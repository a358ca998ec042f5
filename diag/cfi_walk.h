// SPDX-License-Identifier: MIT
//
// cfi_walk: the return addresses of a stack by .eh_frame alone: no library, no lock, no memory.
//
//   registers ─► pc ─► _dl_find_object ─► cache ── hit ──────────────┐
//       ▲                    │ none         │ miss                    ▼
//       │                    │      .eh_frame_hdr ─► CfiRow ─► CFA, return address, saved registers
//       │                    ▼                                        │
//       └──── one step by frame pointer ◄── no rules                  │
//       └─────────────────────────────────────────────────────────────┘ caller's registers
//
// Invariants
//   1. Stack is read through a StackWindow, .eh_frame inside its object's segment.   (junk, fuzz)
//   2. sp grows with each frame, by at most kMaxFrameBytes, but for a signal frame, which may
//      have interrupted another stack: every walk ends.                              (junk test)
//   3. Needs 1.5 KiB of stack at most; 2.2 KiB without optimisation.                 (stack test)
// Locks: none; async-signal-safe; errno is untouched. A step costs 40 ns, 200 ns the first time.
// Called from: backtrace.cc, for the calling thread's own stack.
// Why not libgcc's: loading it costs each process 130 µs and 300 KiB before its first instruction.

#pragma once

#include <cstdint>

#include "diag/cfi_expression.h"
#include "slab/base/compiler.h"

namespace slabscope::diag {

// What a walk starts from: registers that a callee keeps, at the instruction `pc`.
struct CfiRegisters {
  uintptr_t pc = 0;
  uintptr_t sp = 0;
  uintptr_t fp = 0;
  uintptr_t bx = 0;
  uintptr_t r12 = 0;
  uintptr_t r13 = 0;
  uintptr_t r14 = 0;
  uintptr_t r15 = 0;
};

// The registers of the function this is written in, at this place. All 0 where they are not known.
SC_INLINE CfiRegisters current_registers() {
  CfiRegisters now;
#if defined(__x86_64__)
  __asm__ volatile(
      "leaq 0(%%rip), %%rax\n\t"
      "movq %%rax, 0(%0)\n\t"
      "movq %%rsp, 8(%0)\n\t"
      "movq %%rbp, 16(%0)\n\t"
      "movq %%rbx, 24(%0)\n\t"
      "movq %%r12, 32(%0)\n\t"
      "movq %%r13, 40(%0)\n\t"
      "movq %%r14, 48(%0)\n\t"
      "movq %%r15, 56(%0)"
      :
      : "r"(&now)
      : "rax", "memory");
#endif
  return now;
}

// Whether the frame that ends at `cfa` may lie where it is said to.
SC_INLINE bool is_plausible_frame(uintptr_t sp, uintptr_t cfa) {
  constexpr uintptr_t kMaxFrameBytes = uintptr_t{8} << 20U;  // the usual limit of a whole stack
  return cfa > sp && cfa - sp <= kMaxFrameBytes && cfa % sizeof(uintptr_t) == 0;
}

// Whether a program's code may lie there.
SC_INLINE bool is_code_address(uintptr_t pc) {
  return pc >= abi::kPageBytes && pc < kAddressEnd;
}

// Fills up to `max` return addresses, innermost first; the first is the one of the function that
// `start` was taken in. `stack` says what is known to be readable, {} for nothing, and holds
// afterwards what was found to be. 0 if nothing can be had.
[[nodiscard]] unsigned cfi_walk(uintptr_t* frames, unsigned max, const CfiRegisters& start,
                                StackWindow& stack);

}  // namespace slabscope::diag
