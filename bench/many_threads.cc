// SPDX-License-Identifier: MIT
//
// What does a block cost when many threads work side by side, each on its own memory?
//
// Nothing is shared but the allocator. The time shows its locks and false sharing, the peak RSS
// what it keeps for each thread.
#include <thread>
#include <vector>

#include "bench/support/bench.h"

namespace {

using namespace slabscope::bench;

// A working set with bursts: every so often a batch is built and torn down, as a request would.
std::uint64_t work(std::size_t live, std::uint64_t ops, std::uint64_t seed) {
  constexpr std::uint64_t kBurstEvery = 256;
  constexpr std::size_t kBurst = 100;
  Random random(seed);
  std::vector<Block> blocks(live);
  std::vector<Block> burst(kBurst);
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < ops; ++i) {
    Block& block = blocks[random.below(live)];
    if (block.data != nullptr)
      sum += block.release();
    block.allocate(skewed_size(random), i);
    if (i % kBurstEvery == 0) {
      for (Block& item : burst)
        item.allocate(skewed_size(random), i);
      for (Block& item : burst)
        sum += item.release();
    }
  }
  for (Block& block : blocks) {
    if (block.data != nullptr)
      sum += block.release();
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments(argc, argv, "many_threads: threads that share nothing but the allocator");
  const std::size_t threads = arguments.number("threads", 8, 8, "threads");
  const std::size_t live = arguments.number("live", 5'000, 200, "blocks alive in each thread");
  const std::uint64_t ops =
      arguments.number("ops", 1'200'000, 2'000, "replacements of each thread");
  arguments.check();

  Run run("many_threads");
  std::vector<std::uint64_t> sums(threads);
  std::vector<std::thread> workers;
  for (std::size_t i = 0; i < threads; ++i)
    workers.emplace_back([&, i] { sums[i] = work(live, ops, arguments.seed() + i); });
  for (std::thread& worker : workers)
    worker.join();
  std::uint64_t sum = 0;
  for (const std::uint64_t part : sums)
    sum += part;
  return run.finish(threads * ops, sum);
}
