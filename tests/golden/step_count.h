// SPDX-License-Identifier: MIT
//
// How many instructions a piece of work takes: a traced child does it between two calls of mark(),
// its parent steps through it one instruction at a time, and takes the commonest count.
//
//   child:   count_here([] { work(); })    stops; then kRounds times: mark(), work()
//   parent:  Stepper(child) ─► next() ─► count, for each count_here() in turn
#pragma once

#include <link.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <map>

#include "tests/support/check.h"

namespace slabscope::test {

inline constexpr int kRounds = 40;

[[gnu::noinline]] inline void mark() {
  asm volatile("" : : : "memory");
}

template <typename Work>
void count_here(Work work) {
  for (int i = 0; i < 3 * kRounds; ++i) {
    work();  // the lists are filled, the slots of the PLT bound
  }
  raise(SIGSTOP);
  for (int i = 0; i < kRounds; ++i) {
    mark();
    work();
  }
  mark();
}

// Where instructions lie, the last one excluded.
struct Range {
  uintptr_t first;
  uintptr_t last;
};

// The shared object that `function` is in, all its segments; it has the same place in a child.
inline Range object_of(const void* function) {
  struct Search {
    uintptr_t wanted;
    Range found;
  } search{reinterpret_cast<uintptr_t>(function), {0, 0}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* context) {
        auto* to = static_cast<Search*>(context);
        Range all{UINTPTR_MAX, 0};
        for (const auto* part = info->dlpi_phdr; part != info->dlpi_phdr + info->dlpi_phnum;
             ++part) {
          if (part->p_type == PT_LOAD) {
            const uintptr_t first = info->dlpi_addr + part->p_vaddr;
            all = {std::min(all.first, first), std::max(all.last, first + part->p_memsz)};
          }
        }
        if (to->wanted < all.first || to->wanted >= all.last) {
          return 0;
        }
        to->found = all;
        return 1;
      },
      &search);
  return search.found;
}

class Stepper {
 public:
  // Counted are all instructions, or only those of one shared object.
  explicit Stepper(pid_t child, Range only = {0, UINTPTR_MAX}) : child_(child), only_(only) {
    int status = 0;
    may_trace_ = waitpid(child_, &status, 0) == child_ && WIFSTOPPED(status);
  }
  // False where the system does not permit tracing: the child has ended.
  bool may_trace() const { return may_trace_; }

  // Of the child's next count_here(); -1 if it ended.
  int next() {
    if (!first_) {
      int status = 0;
      if (ptrace(PTRACE_CONT, child_, nullptr, nullptr) != 0 ||
          waitpid(child_, &status, 0) != child_ || !WIFSTOPPED(status)) {
        return -1;
      }
    }
    first_ = false;
    return commonest();
  }
  // Whether the child goes on to its end.
  bool finish() const {
    int status = 0;
    return ptrace(PTRACE_CONT, child_, nullptr, nullptr) == 0 &&
           waitpid(child_, &status, 0) == child_ && WIFEXITED(status);
  }

 private:
  // Steps from mark() to mark() kRounds times.
  int commonest() const {
    std::map<int, int> seen;
    int steps = 0;
    int marks = 0;
    while (marks <= kRounds) {
      int status = 0;
      if (ptrace(PTRACE_SINGLESTEP, child_, nullptr, nullptr) != 0 ||
          waitpid(child_, &status, 0) != child_ || !WIFSTOPPED(status)) {
        return -1;
      }
      user_regs_struct registers{};
      ptrace(PTRACE_GETREGS, child_, nullptr, &registers);
      steps += registers.rip - only_.first < only_.last - only_.first ? 1 : 0;
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

  pid_t child_;
  Range only_;
  bool may_trace_ = false;
  bool first_ = true;
};

// For main(): `child` runs in a traced process, `judge` gets what steps through it. Returns what
// main() returns: 0, or 77 (skipped) where the system does not permit tracing.
template <typename Child, typename Judge>
int count_steps(Child child, Judge judge, Range only = {0, UINTPTR_MAX}) {
  const pid_t tracee = fork();
  if (tracee == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) {
      _exit(77);
    }
    child();
    _exit(0);
  }
  Stepper steps(tracee, only);
  if (!steps.may_trace()) {
    std::puts("this system does not permit tracing");
    return 77;
  }
  judge(steps);
  SC_EXPECT(steps.finish());
  return 0;
}

}  // namespace slabscope::test
