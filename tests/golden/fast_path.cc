// SPDX-License-Identifier: MIT
//
// Counts the instructions of a malloc and a free that take the fast path. What the same loop
// executes without the pair is subtracted. Prints one line a size: the commonest count.
#include <cstdio>

#include "tests/golden/step_count.h"
#include "tests/support/check.h"

using slabscope::test::count_here;
using slabscope::test::opaque;

namespace {

constexpr size_t kSizes[] = {16, 64, 100, 1024, 4096, 30000};

__attribute__((noinline)) void pair(size_t bytes) {
  free(opaque(malloc(bytes)));
}
__attribute__((noinline)) void nothing(size_t bytes) {
  opaque(bytes);
}

[[noreturn]] void child() {
  if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) {
    _exit(77);
  }
  count_here([] { nothing(0); });
  for (size_t bytes : kSizes) {
    count_here([bytes] { pair(bytes); });
  }
  _exit(0);
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  const pid_t tracee = fork();
  if (tracee == 0) {
    child();
  }
  slabscope::test::Stepper steps(tracee);
  if (!steps.may_trace()) {
    std::puts("this system does not permit tracing");
    return 77;
  }
  const int empty = steps.next();
  SC_EXPECT(empty > 0);
  for (size_t bytes : kSizes) {
    const int count = steps.next();
    SC_EXPECT(count > empty);
    std::printf("%zu %d\n", bytes, count - empty);
  }
  SC_EXPECT(steps.finish());
  return 0;
}
