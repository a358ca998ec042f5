// SPDX-License-Identifier: MIT
//
// unwind_walk: our own walk up the stack by the modules' unwind tables: no library, no lock, no memory.
//
//   pc, sp, fp ─► cached rules? ─ no ─► find_rules(pc) ─► cache ─┐
//                    └────────────────────────────────────────► read saved words ─► pc, sp, fp of the caller
//                                                                  └ every page was probed before
//
// Invariants
//   1. Stack memory is read only where it was seen to be readable, so wrong tables or junk in a
//      register end the walk and do no harm.                                             (junk test)
//   2. The stack pointer only grows, but across a signal frame; a walk ends.              (coroutine test)
//   3. A cache entry is written by the one thread that locked it; a reader that meets a writer misses.
// Locks: none. 1.2 KiB of stack with a cold cache. Called from: backtrace.cc.
// Why not libgcc's _Unwind_Backtrace: a C program has not loaded it, and dlopen costs 150 µs at each
// start; it reads through bad addresses. libunwind remains for `all`, see backtrace.h.

#pragma once

#include <cstddef>
#include <cstdint>

namespace slabscope::diag {

// The part of the calling thread's stack that is known to be readable: [low, high).
struct KnownStack {
  uintptr_t low = 0;
  uintptr_t high = 0;

  // Makes sure of [first, end), probing the pages that are not known; false if one cannot be read.
  bool extend(uintptr_t first, uintptr_t end);
  // The word at `address`, if it can be read.
  bool read(uintptr_t address, uintptr_t& word);
};

struct UnwindRegisters {
  uintptr_t pc = 0;
  uintptr_t sp = 0;
  uintptr_t fp = 0;
  uintptr_t bx = 0;
  bool bx_known = false;
  bool interrupted = false;  // pc is where a signal came, not a return address
};

// The return addresses from registers.pc (the first) outwards.
unsigned unwind_by_tables(UnwindRegisters registers, KnownStack& stack, uintptr_t* frames,
                          unsigned max);

}  // namespace slabscope::diag
