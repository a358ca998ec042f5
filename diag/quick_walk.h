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
// Locks: a try-lock a place, never waited for. Memory: 8 KiB a place, once it was used, for ever;
// more once a stack of it was named (known_stacks.h).
// Called from: backtrace.cc.
// Why not in thread-local storage: that lies on the thread's own stack, of which it would take a
// third where the program asked for 16 KiB.

#pragma once

#include <cstdint>

#include "diag/cfi_walk.h"
#include "slab/base/compiler.h"

namespace slabscope::diag {

struct QuickWalk {
  unsigned count = 0;     // frames that were filled
  bool complete = false;  // up to the outermost one, or to `max`; else the caller tries otherwise
};

// A number by which a stack is known to whoever asks for it; what name_walk() needs to give it one.
struct WalkName {
  uint32_t name = 0;   // 0: none yet
  uint32_t place = 0;  // of the walk, until the thread's next one
  uint64_t walk = 0;   // 0: the stack cannot be named
};

// As cfi_walk.
[[nodiscard]] QuickWalk quick_walk(uintptr_t* frames, unsigned max, const CfiRegisters& start,
                                   StackWindow& stack);

// The same, but if the stack has a name that is returned, and no frame: then it is complete, with
// `count` 0. A name says `max` too: one user alone.
[[nodiscard]] QuickWalk quick_walk_named(uintptr_t* frames, unsigned max, const CfiRegisters& start,
                                         StackWindow& stack, WalkName& name);

// From now on the stack of that walk has this name. Best effort: it may be forgotten.
SC_COLD void name_walk(const WalkName& walk, uint32_t name);

// In a fork child, while it has one thread: places that other threads had taken are free.
void quick_walk_after_fork();

}  // namespace slabscope::diag
