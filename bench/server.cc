// SPDX-License-Identifier: MIT
//
// What does a block cost in a server whose threads come and go and inherit each other's objects?
//
// Each of several tables of live blocks is worked on by one thread at a time: it replaces random
// entries, exits, and a new thread takes the next table. So every thread frees mostly what others
// allocated, and the memory of dead threads has to find new owners. (After the shape of the server
// workload that Larson and Krishnan described in 1998.)
#include <thread>
#include <vector>

#include "bench/support/bench.h"

namespace {

using namespace slabscope::bench;

struct Table {
  std::vector<Block> blocks;
  Random random;
  std::uint64_t sum = 0;

  Table(std::size_t live, std::uint64_t seed) : blocks(live), random(seed) {}

  void work(std::uint64_t steps) {
    for (std::uint64_t i = 0; i < steps; ++i) {
      Block& block = blocks[random.below(blocks.size())];
      if (block.data != nullptr)
        sum += block.release();
      block.allocate(skewed_size(random), i);
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments(argc, argv, "server: threads that inherit tables of live blocks");
  const std::size_t threads = arguments.number("threads", 4, 4, "tables and threads at a time");
  const std::size_t live = arguments.number("live", 2'000, 200, "blocks in a table");
  const std::uint64_t generations = arguments.number("generations", 60, 3, "times threads change");
  const std::uint64_t steps = arguments.number("steps", 30'000, 2'000, "replacements of a thread");
  arguments.check();

  std::vector<Table> tables;
  for (std::size_t i = 0; i < threads; ++i)
    tables.emplace_back(live, arguments.seed() + i);

  Run run("server");
  for (std::uint64_t generation = 0; generation < generations; ++generation) {
    std::vector<std::thread> workers;
    workers.reserve(threads);
    for (Table& table : tables)
      workers.emplace_back([&table, steps] { table.work(steps); });
    for (std::thread& worker : workers)
      worker.join();
  }
  std::uint64_t sum = 0;
  for (Table& table : tables) {
    for (Block& block : table.blocks) {
      if (block.data != nullptr)
        sum += block.release();
    }
    sum += table.sum;
  }
  return run.finish(threads * generations * steps, sum);
}
