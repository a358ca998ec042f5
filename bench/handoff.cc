// SPDX-License-Identifier: MIT
//
// What does a block cost when one thread allocates it and another frees it?
//
// Producers only allocate, consumers only free: a cache that keeps what its thread frees fills on
// one side and starves on the other, so memory has to flow back. Watch the peak RSS too: at most
// a few thousand blocks are alive.
#include <memory>
#include <thread>
#include <vector>

#include "bench/support/bench.h"
#include "bench/support/channel.h"

namespace {

using namespace slabscope::bench;

void produce(Channel& channel, std::uint64_t batches, std::uint64_t seed) {
  Random random(seed);
  for (std::uint64_t i = 0; i < batches; ++i) {
    Batch batch;
    for (Block& block : batch.blocks)
      block.allocate(skewed_size(random), random.next());
    channel.put(batch);
  }
}

void consume(Channel& channel, std::uint64_t& result) {
  std::uint64_t sum = 0;
  Batch batch;
  while (channel.take(batch)) {
    for (Block& block : batch.blocks)
      sum += block.release();
  }
  result = sum;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments(argc, argv, "handoff: producers allocate, consumers free");
  const std::size_t producers = arguments.number("producers", 1, 1, "threads that allocate");
  const std::size_t consumers = arguments.number("consumers", 1, 1, "threads that free");
  const std::uint64_t batches = arguments.number("batches", 40'000, 200, "of 128 blocks, in all");
  arguments.check();

  Run run("handoff");
  const auto channel = std::make_unique<Channel>();
  std::vector<std::uint64_t> sums(consumers);
  std::vector<std::thread> makers;
  std::vector<std::thread> takers;
  makers.reserve(producers);
  takers.reserve(consumers);
  for (std::size_t i = 0; i < producers; ++i)
    makers.emplace_back([&, i] { produce(*channel, batches / producers, arguments.seed() + i); });
  for (std::uint64_t& sum : sums)
    takers.emplace_back([&channel, &sum] { consume(*channel, sum); });
  for (std::thread& maker : makers)
    maker.join();
  channel->close();
  for (std::thread& taker : takers)
    taker.join();
  std::uint64_t sum = 0;
  for (const std::uint64_t part : sums)
    sum += part;
  return run.finish(batches / producers * producers * Batch::kBlocks, sum);
}
