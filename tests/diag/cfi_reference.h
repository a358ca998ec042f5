// SPDX-License-Identifier: MIT
//
// cfi_reference: one stack walked from one place by cfi_walk, by quick_walk and by libgcc's
// _Unwind_Backtrace.

#pragma once

#include <gtest/gtest.h>
#include <unwind.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>

#include "diag/cfi_walk.h"
#include "diag/quick_walk.h"
#include "slab/base/compiler.h"

namespace slabscope::diag::testing {

inline constexpr unsigned kMaxFrames = 256;

template <unsigned kMax = kMaxFrames>
struct WalkedStack {
  unsigned count = 0;
  std::array<uintptr_t, kMax> frames{};
};

struct Walks {
  WalkedStack<> ours;
  WalkedStack<abi::kMaxFrames> quick;  // count 0: incomplete
  WalkedStack<> reference;             // its first frame is the function that walked
};

inline thread_local constinit Walks t_walks{};

inline _Unwind_Reason_Code collect_reference(struct _Unwind_Context* context, void* data) {
  auto& stack = *static_cast<WalkedStack<>*>(data);
  const uintptr_t pc = _Unwind_GetIP(context);
  if (pc == 0 || stack.count == kMaxFrames)
    return _URC_END_OF_STACK;
  stack.frames[stack.count++] = pc;
  return _URC_NO_REASON;
}

inline void walk_reference() {
  t_walks.reference.count = 0;
  _Unwind_Backtrace(collect_reference, &t_walks.reference);
}

SC_NOINLINE inline void walk_both() {
  StackWindow window;
  const CfiRegisters here = current_registers();
  t_walks.ours.count = cfi_walk(t_walks.ours.frames.data(), kMaxFrames, here, window);
  const QuickWalk quick = quick_walk(t_walks.quick.frames.data(), abi::kMaxFrames, here, window);
  t_walks.quick.count = quick.complete ? quick.count : 0;
  t_walks.reference.count = 0;
  _Unwind_Backtrace(collect_reference, &t_walks.reference);
  __asm__ volatile("" ::: "memory");
}

// Whether quick_walk, if it was complete, found what cfi_walk found.
[[nodiscard]] inline bool is_same_quickly() {
  const WalkedStack<>& ours = t_walks.ours;
  const auto& quick = t_walks.quick;
  return quick.count == 0 ||
         (quick.count == std::min(ours.count, abi::kMaxFrames) &&
          std::equal(&quick.frames[0], &quick.frames[quick.count], &ours.frames[0]));
}

[[nodiscard]] inline bool is_same() {
  const WalkedStack<>& ours = t_walks.ours;
  const WalkedStack<>& reference = t_walks.reference;
  if (!is_same_quickly() || ours.count == 0 || ours.count + 1 != reference.count)
    return false;
  for (unsigned i = 0; i < ours.count; ++i) {
    if (ours.frames[i] != reference.frames[i + 1])
      return false;
  }
  return true;
}

inline void expect_same(unsigned at_least) {
  EXPECT_GE(t_walks.ours.count, at_least);
  EXPECT_TRUE(is_same());
  if (is_same())
    return;
  for (unsigned i = 0; i < t_walks.ours.count || i + 1 < t_walks.reference.count; ++i) {
    const uintptr_t ours = i < t_walks.ours.count ? t_walks.ours.frames[i] : 0;
    const uintptr_t reference =
        i + 1 < t_walks.reference.count ? t_walks.reference.frames[i + 1] : 0;
    printf("  %2u ours %#lx reference %#lx%s\n", i, ours, reference,
           ours == reference ? "" : "  <- differs");
  }
}

// Twice: from the tables, then from the cache.
inline void expect_same_twice(unsigned at_least, const std::function<void()>& call) {
  for (int i = 0; i < 2; ++i) {
    t_walks = {};
    call();
    expect_same(at_least);
  }
}

}  // namespace slabscope::diag::testing
