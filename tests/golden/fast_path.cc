// SPDX-License-Identifier: MIT
//
// Counts the instructions of a malloc and a free that take the fast path: a traced child does pairs
// between two calls of mark(), its parent steps through them one instruction at a time. What the
// same loop executes without the pair is subtracted. Prints one line a size: the commonest count.
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "tests/support/check.h"

using slabscope::test::opaque;

namespace {

constexpr size_t kSizes[] = {16, 64, 100, 1024, 4096, 30000};
constexpr int kPairs = 40;

__attribute__((noinline)) void mark() {
  asm volatile("" : : : "memory");
}

__attribute__((noinline)) void pair(size_t bytes) {
  free(opaque(malloc(bytes)));
}
__attribute__((noinline)) void nothing(size_t bytes) {
  opaque(bytes);
}

void measured(void (*work)(size_t), size_t bytes) {
  for (int i = 0; i < 3 * kPairs; ++i) {
    work(bytes);  // the lists are filled, the slots of the PLT bound
  }
  raise(SIGSTOP);
  for (int i = 0; i < kPairs; ++i) {
    mark();
    work(bytes);
  }
  mark();
}

[[noreturn]] void child() {
  if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) {
    _exit(77);
  }
  measured(nothing, 0);
  for (size_t bytes : kSizes) {
    measured(pair, bytes);
  }
  _exit(0);
}

// Steps from mark() to mark() kPairs times; returns the commonest number of steps between two.
int commonest(pid_t tracee) {
  std::map<int, int> seen;
  int steps = 0;
  int marks = 0;
  while (marks <= kPairs) {
    if (ptrace(PTRACE_SINGLESTEP, tracee, nullptr, nullptr) != 0) {
      return -1;
    }
    int status = 0;
    if (waitpid(tracee, &status, 0) != tracee || !WIFSTOPPED(status)) {
      return -1;
    }
    user_regs_struct registers{};
    ptrace(PTRACE_GETREGS, tracee, nullptr, &registers);
    ++steps;
    if (registers.rip == reinterpret_cast<uintptr_t>(&mark)) {
      if (marks++ > 0) {
        ++seen[steps];
      }
      steps = 0;
    }
  }
  return std::max_element(seen.begin(), seen.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

int next(pid_t tracee) {
  int status = 0;
  if (ptrace(PTRACE_CONT, tracee, nullptr, nullptr) != 0 || waitpid(tracee, &status, 0) != tracee ||
      !WIFSTOPPED(status)) {
    return -1;
  }
  return commonest(tracee);
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  const pid_t tracee = fork();
  if (tracee == 0) {
    child();
  }
  int status = 0;
  SC_EXPECT(waitpid(tracee, &status, 0) == tracee);
  if (!WIFSTOPPED(status)) {
    std::puts("this system does not permit tracing");
    return 77;
  }
  const int empty = commonest(tracee);
  SC_EXPECT(empty > 0);
  for (size_t bytes : kSizes) {
    const int count = next(tracee);
    SC_EXPECT(count > empty);
    std::printf("%zu %d\n", bytes, count - empty);
  }
  SC_EXPECT(ptrace(PTRACE_CONT, tracee, nullptr, nullptr) == 0);
  SC_EXPECT(waitpid(tracee, &status, 0) == tracee && WIFEXITED(status));
  return 0;
}
