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

void child() {
  count_here([] { nothing(0); });
  for (size_t bytes : kSizes) {
    count_here([bytes] { pair(bytes); });
  }
}

void print_counts(slabscope::test::Stepper& steps) {
  const int empty = steps.next();
  SC_EXPECT(empty > 0);
  for (size_t bytes : kSizes) {
    const int count = steps.next();
    SC_EXPECT(count > empty);
    std::printf("%zu %d\n", bytes, count - empty);
  }
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  return slabscope::test::count_steps(child, print_counts);
}
