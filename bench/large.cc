// SPDX-License-Identifier: MIT
//
// What do blocks of 64 KiB to 8 MiB cost when they come and go and every page is used?
//
// The price is page faults: an allocator that returns such memory at once pays for each page again
// and again. The peak RSS says what keeping it costs.
#include <vector>

#include "bench/support/bench.h"

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kSmallest = 64 << 10;
constexpr std::size_t kDoublings = 7;  // 64 KiB << 7 = 8 MiB

// As many of 64-128 KiB as of 4-8 MiB.
std::size_t large_size(slabscope::bench::Random& random) {
  const std::size_t floor = kSmallest << random.below(kDoublings);
  return floor + random.below(floor);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace slabscope::bench;
  Arguments arguments(argc, argv, "large: replace random members of a set of large blocks");
  const std::size_t live = arguments.number("live", 16, 4, "blocks alive at any time");
  const std::uint64_t ops = arguments.number("ops", 3'000, 30, "replacements");
  arguments.check();

  Random random(arguments.seed());
  std::vector<Block> blocks(live);

  Run run("large");
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < ops; ++i) {
    Block& block = blocks[random.below(live)];
    if (block.data != nullptr)
      sum += block.release();
    block.allocate(large_size(random), i);
    for (std::size_t at = kPage; at + 1 < block.size; at += kPage)
      static_cast<unsigned char*>(block.data)[at] = 1;
  }
  for (Block& block : blocks) {
    if (block.data != nullptr)
      sum += block.release();
  }
  return run.finish(ops, sum);
}
