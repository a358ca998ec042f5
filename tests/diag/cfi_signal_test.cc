// SPDX-License-Identifier: MIT
//
// Walks out of signal handlers, and from every single instruction of some library code.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "diag/cfi_walk.h"
#include "tests/diag/cfi_reference.h"
#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::expect_same_twice;
using testing::is_same;
using testing::under_sanitizer;
using testing::walk_both;

SC_NOINLINE void fault_in_leaf(volatile int* nowhere) {
  *nowhere = 1;
}

void on_fault(int, siginfo_t*, void* context) {
  walk_both();
  auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  static int somewhere;  // for the register that the compiler took, whichever it is
  for (const int reg : {REG_RAX, REG_RDX, REG_RDI})
    registers[reg] = reinterpret_cast<greg_t>(&somewhere);
}

void handle(int signal, void (*handler)(int, siginfo_t*, void*), int flags) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  ASSERT_EQ(sigaction(signal, &action, nullptr), 0);
}

TEST(CfiSignal, ThroughSignalsOnBothStacks) {
  if (under_sanitizer())
    GTEST_SKIP() << "handlers are called by the sanitizer";
  std::vector<char> alternate(size_t{64} << 10U);
  for (const int flags : {0, SA_ONSTACK}) {
    stack_t stack = {};
    stack.ss_sp = alternate.data();
    stack.ss_size = alternate.size();
    ASSERT_EQ(sigaltstack(&stack, nullptr), 0);
    handle(
        SIGUSR1, [](int, siginfo_t*, void*) { walk_both(); }, flags);
    expect_same_twice(9, [] { raise(SIGUSR1); });
    handle(SIGSEGV, on_fault, flags);
    volatile int* nowhere = nullptr;
    expect_same_twice(7, [=] { fault_in_leaf(nowhere); });
    signal(SIGSEGV, SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
  }
  stack_t off = {};
  off.ss_flags = SS_DISABLE;
  sigaltstack(&off, nullptr);
}

constexpr greg_t kTrapFlag = 0x100;
std::atomic<bool> g_stepping{false};
unsigned g_steps = 0;
unsigned g_differ = 0;
std::array<uintptr_t, 8> g_differ_at{};

// The walk from every instruction that the stepped code executes.
void on_step(int, siginfo_t*, void* context) {
  auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  if (!g_stepping) {
    registers[REG_EFL] &= ~kTrapFlag;
    return;
  }
  ++g_steps;
  walk_both();
  if (!is_same() && g_differ++ < g_differ_at.size())
    g_differ_at[g_differ - 1] = static_cast<uintptr_t>(registers[REG_RIP]);
}

void on_begin(int, siginfo_t*, void* context) {
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] |= kTrapFlag;
}

void step_through(const char* what, unsigned at_least, const std::function<void()>& body,
                  unsigned may_differ = 0) {
  handle(SIGTRAP, on_step, 0);
  handle(SIGUSR1, on_begin, 0);
  g_steps = g_differ = 0;
  g_stepping = true;
  raise(SIGUSR1);
  body();
  g_stepping = false;
  signal(SIGUSR1, SIG_DFL);  // some instructions later, the last trap is taken
  EXPECT_GE(g_steps, at_least) << what;
  EXPECT_LE(g_differ, may_differ) << what << " of " << g_steps;
  for (size_t i = 0; g_differ > may_differ && i < g_differ && i < g_differ_at.size(); ++i) {
    Dl_info info = {};
    dladdr(reinterpret_cast<void*>(g_differ_at[i]), &info);
    printf("  differs at %s + %#zx (%s)\n", info.dli_fname,
           g_differ_at[i] - reinterpret_cast<uintptr_t>(info.dli_fbase),
           info.dli_sname != nullptr ? info.dli_sname : "?");
  }
}

TEST(CfiSignal, FromEveryInstructionOfLibraryCode) {
  if (under_sanitizer())
    GTEST_SKIP() << "handlers are called by the sanitizer";
  // First calls, where the program binds lazily: the PLT stub and the dynamic linker's resolver.
  step_through("plt", 20, [] {
    static_cast<void>(a64l("zz"));
    static_cast<void>(ecvt(1.0, 2, new int, new int));
  });
  step_through("malloc", 50, [] {
    void* volatile block = malloc(100000);
    free(block);
  });
  step_through("qsort", 200, [] {
    std::array<int, 6> values{5, 3, 1, 4, 2, 0};
    qsort(values.data(), values.size(), sizeof(int), [](const void* left, const void* right) {
      return *static_cast<const int*>(left) - *static_cast<const int*>(right);
    });
  });
  step_through("snprintf", 500, [] {
    char text[64];
    static_cast<void>(snprintf(text, sizeof text, "%d %s %.3f", 42, "text", 1.5));
  });
  // Once libgcc has switched to the catcher's stack, its own frame is not described any more.
  const auto throws = [] {
    try {
      throw 1;
    } catch (int) {
    }
  };
  step_through("throw", 1000, throws, 1);
}

}  // namespace
}  // namespace slabscope::diag
