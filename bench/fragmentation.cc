// SPDX-License-Identifier: MIT
//
// How much memory does a program keep after its peak?
//
// Blocks of skewed sizes are allocated and 90 % of them freed at random, so that hardly any page
// is empty; then the program idles with a little activity, frees the rest and idles again. The
// line reports the resident memory at each of the three points beside the bytes requested.
#include <utility>
#include <vector>

#include "bench/support/bench.h"

int main(int argc, char** argv) {
  using namespace slabscope::bench;
  Arguments arguments(argc, argv, "fragmentation: resident memory after a peak");
  const std::size_t count = arguments.number("blocks", 500'000, 10'000, "blocks at the peak");
  const std::uint64_t rest = arguments.number("idle-ms", 1'500, 20, "how long it idles each time");
  arguments.check();

  Random random(arguments.seed());
  std::vector<Block> blocks(count);
  for (Block& block : blocks)
    stamp(&block, sizeof block, 0);  // the table itself is resident before the first figure
  const std::uint64_t before = resident_kib();

  Run run("fragmentation");
  std::uint64_t sum = 0;
  std::uint64_t requested = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t size = skewed_size(random);
    blocks[i].allocate(size, i);
    std::memset(static_cast<char*>(blocks[i].data) + sizeof i, 1, size - sizeof i - 1);
    requested += size;
  }
  const std::uint64_t peak = resident_kib() - before;
  for (std::size_t i = count - 1; i > 0; --i)
    std::swap(blocks[i], blocks[random.below(i + 1)]);
  const std::size_t keep_from = count - count / 10;
  for (std::size_t i = 0; i < keep_from; ++i)
    sum += blocks[i].release();
  idle(rest, random);
  const std::uint64_t tenth = resident_kib() - before;
  for (std::size_t i = keep_from; i < count; ++i)
    sum += blocks[i].release();
  idle(rest, random);
  const std::uint64_t end = resident_kib();
  return run.finish(count, sum,
                    {{"requested_kib", requested / 1024},
                     {"rss_peak_kib", peak},
                     {"rss_tenth_kib", tenth},
                     {"rss_none_kib", end > before ? end - before : 0}});
}
