// SPDX-License-Identifier: MIT
//
// What does a block cost when a few dozen live at the same time, of one size or of many?
//
// Programs build something, use it and tear it down. Batches of 64 overflow a very small cache
// (glibc keeps seven blocks a size) but not a good one. The order of the frees goes round: first
// in first out, last in first out, shuffled.
#include <array>
#include <numeric>
#include <utility>

#include "bench/support/bench.h"

namespace {

constexpr std::size_t kBatch = 64;
constexpr std::size_t kSizes = 4096;  // drawn beforehand: the loop must not pay for the generator
using Order = std::array<std::size_t, kBatch>;

std::array<Order, 3> make_orders(slabscope::bench::Random& random) {
  std::array<Order, 3> orders{};
  for (Order& order : orders)
    std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = 0; i < kBatch; ++i)
    orders[1][i] = kBatch - 1 - i;
  for (std::size_t i = kBatch - 1; i > 0; --i)
    std::swap(orders[2][i], orders[2][random.below(i + 1)]);
  return orders;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace slabscope::bench;
  Arguments arguments(argc, argv, "batch: take 64 blocks, give 64 back");
  const std::string kind = arguments.word("sizes", "same", "'same' or 'mixed' (16 to 2047)");
  const std::size_t size = arguments.number("size", 64, 64, "bytes of a block when all are alike");
  const std::uint64_t rounds = arguments.number("rounds", 400'000, 300, "batches");
  arguments.check();

  Random random(arguments.seed());
  const std::array<Order, 3> orders = make_orders(random);
  std::array<std::size_t, kSizes> sizes{};
  for (std::size_t& item : sizes)
    item = kind == "mixed" ? skewed_size(random) : size;

  Run run("batch");
  std::uint64_t sum = 0;
  std::array<Block, kBatch> blocks;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const std::size_t first = round * kBatch % kSizes;
    for (std::size_t i = 0; i < kBatch; ++i)
      blocks[i].allocate(sizes[first + i], round + i);
    for (const std::size_t i : orders[round % orders.size()])
      sum += blocks[i].release();
  }
  return run.finish(rounds * kBatch, sum);
}
