// SPDX-License-Identifier: MIT
//
// What does a block cost in a program that has many others, dying in no order?
//
// A set of live blocks of skewed sizes; each step kills a random one and puts a new one in its
// place. Ten thousand fit the second-level cache; half a million do not, and then what counts is
// how many cache lines free() must touch besides the block itself.
#include <vector>

#include "bench/support/bench.h"

int main(int argc, char** argv) {
  using namespace slabscope::bench;
  Arguments arguments(argc, argv, "working_set: replace random members of a set of live blocks");
  const std::size_t live = arguments.number("live", 10'000, 1'000, "blocks alive at any time");
  const std::uint64_t ops = arguments.number("ops", 12'000'000, 20'000, "replacements");
  arguments.check();

  Random random(arguments.seed());
  std::vector<Block> blocks(live);

  Run run("working_set");
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < live; ++i)
    blocks[i].allocate(skewed_size(random), i);
  for (std::uint64_t i = 0; i < ops; ++i) {
    Block& victim = blocks[random.below(live)];
    sum += victim.release();
    victim.allocate(skewed_size(random), i);
  }
  for (Block& block : blocks)
    sum += block.release();
  return run.finish(ops + live, sum);
}
