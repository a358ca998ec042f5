// SPDX-License-Identifier: MIT

#include "diag/cfi_walk.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "slab/base/compiler.h"
#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::under_sanitizer;

constexpr unsigned kMax = 256;

// ---- the same stack, walked by us and by libgcc --------------------------------------------------

struct Stack {
  unsigned count = 0;
  std::array<uintptr_t, kMax> frames{};
};

_Unwind_Reason_Code collect(struct _Unwind_Context* context, void* data) {
  auto& stack = *static_cast<Stack*>(data);
  const uintptr_t pc = _Unwind_GetIP(context);
  if (pc == 0 || stack.count == kMax)
    return _URC_END_OF_STACK;
  stack.frames[stack.count++] = pc;
  return _URC_NO_REASON;
}

struct Both {
  Stack ours;
  Stack reference;  // begins in the function that compared
};

Both g_both;

// Frames of ours must be libgcc's but for the function that holds both calls.
SC_NOINLINE void walk_both() {
  g_both.ours.count = 0;
  g_both.reference.count = 0;
  StackWindow window;
  const CfiRegisters here = current_registers();
  g_both.ours.count = cfi_walk(g_both.ours.frames.data(), kMax, here, window);
  _Unwind_Backtrace(collect, &g_both.reference);
  __asm__ volatile("" ::: "memory");
}

void expect_same(unsigned at_least) {
  const Stack& ours = g_both.ours;
  const Stack& reference = g_both.reference;
  ASSERT_GE(ours.count, at_least);
  // libgcc's first frame is walk_both itself.
  ASSERT_EQ(ours.count + 1, reference.count);
  for (unsigned i = 0; i < ours.count; ++i)
    ASSERT_EQ(ours.frames[i], reference.frames[i + 1]) << "frame " << i;
}

SC_NOINLINE void recurse(unsigned depth) {
  if (depth == 0)
    walk_both();
  else
    recurse(depth - 1);
  __asm__ volatile("" ::: "memory");
}

TEST(CfiWalk, DeepRecursionIsLibgccs) {
  for (const unsigned depth : {0U, 1U, 10U, 100U}) {
    recurse(depth);
    expect_same(depth + 5);
    recurse(depth);  // from the cache
    expect_same(depth + 5);
  }
}

}  // namespace
}  // namespace slabscope::diag
