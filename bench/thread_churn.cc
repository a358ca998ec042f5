// SPDX-License-Identifier: MIT
//
// What does a short-lived thread cost that allocates a little and leaves something behind?
//
// A few threads at a time are created, allocate, free most of it and exit; the main thread frees
// the rest a few generations later. A thread's first allocation, its exit and the adoption of what
// it left are all there is, beside what the thread itself costs.
#include <array>
#include <deque>
#include <thread>
#include <vector>

#include "bench/support/bench.h"

namespace {

using namespace slabscope::bench;

constexpr std::size_t kBlocks = 200;
constexpr std::size_t kLeft = 50;
constexpr std::size_t kGenerationsKept = 8;
using Legacy = std::array<Block, kLeft>;

std::uint64_t live_and_die(std::uint64_t seed, Legacy& legacy) {
  Random random(seed);
  std::array<Block, kBlocks> blocks;
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kBlocks; ++i)
    blocks[i].allocate(skewed_size(random), i);
  for (std::size_t i = 0; i < kBlocks; ++i) {
    if (i % (kBlocks / kLeft) == 0)
      legacy[i / (kBlocks / kLeft)] = blocks[i];
    else
      sum += blocks[i].release();
  }
  return sum;
}

std::uint64_t bury(std::vector<Legacy>& legacies) {
  std::uint64_t sum = 0;
  for (Legacy& legacy : legacies) {
    for (Block& block : legacy)
      sum += block.release();
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments(argc, argv, "thread_churn: threads that live for 200 blocks");
  const std::size_t width = arguments.number("width", 4, 4, "threads at a time");
  const std::uint64_t generations = arguments.number("generations", 3'000, 30, "times they change");
  arguments.check();

  Run run("thread_churn");
  std::uint64_t sum = 0;
  std::deque<std::vector<Legacy>> left;
  for (std::uint64_t generation = 0; generation < generations; ++generation) {
    std::vector<Legacy>& legacies = left.emplace_back(width);
    std::vector<std::uint64_t> sums(width);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < width; ++i) {
      const std::uint64_t seed = arguments.seed() + generation * width + i;
      threads.emplace_back(
          [&sums, &legacies, i, seed] { sums[i] = live_and_die(seed, legacies[i]); });
    }
    for (std::thread& thread : threads)
      thread.join();
    for (const std::uint64_t part : sums)
      sum += part;
    if (left.size() > kGenerationsKept) {
      sum += bury(left.front());
      left.pop_front();
    }
  }
  for (std::vector<Legacy>& legacies : left)
    sum += bury(legacies);
  return run.finish(generations * width, sum);
}
