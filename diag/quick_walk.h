// SPDX-License-Identifier: MIT
//
// quick_walk: a stack by cached rules alone, of which only what changed since the last walk is
// walked.
//
//   this walk   A ─► B ─► C'─► D ─► E …          each frame: pc, sp, fp
//                              ║    ║  same frame, and its slots hold what they held: taken over
//   last walk   A ─► B ─► C ─► D ─► E …          for each thread, in one of kPlaces
//
// Frames of the common form (cfi_cache.h) are determined by pc, sp and fp alone. So a frame that
// equals one of the last walk has the same callers as then, if the words that hold their return
// addresses and frame pointers are unchanged: a load and a comparison for each, instead of a step.
//
// Invariants
//   1. What it returns as complete is what cfi_walk returns.                  (comparison test)
//   2. sp grows with each frame; words are read through the window.                  (as there)
//   3. A place is used by one thread at a time. One that finds several taken does without, and the
//      walk is incomplete: that costs time and nothing else.                      (threads test)
// Locks: a try-lock a place, never waited for. Memory: 8 KiB a place, once it was used, for ever.
// Called from: backtrace.cc.
// Why not in thread-local storage: that lies on the thread's own stack, of which it would take a
// third where the program asked for 16 KiB.

#pragma once

#include <cstdint>

#include "diag/cfi_walk.h"

namespace slabscope::diag {

struct QuickWalk {
  unsigned count = 0;     // frames that were filled
  bool complete = false;  // up to the outermost one, or to `max`; else the caller tries otherwise
};

// As cfi_walk.
[[nodiscard]] QuickWalk quick_walk(uintptr_t* frames, unsigned max, const CfiRegisters& start,
                                   StackWindow& stack);

// In a fork child, while it has one thread: places that other threads had taken are free.
void quick_walk_after_fork();

}  // namespace slabscope::diag
