// SPDX-License-Identifier: MIT
//
// What does a block cost when all threads allocate and all free what the others allocated?
//
// Every thread builds a batch, the batch itself a block, drops it into a random slot of a shared
// board and frees whatever lay there. Unlike producer and consumer the flow is even, so the caches
// stay full; what counts is what it costs to free a stranger's block.
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "bench/support/bench.h"

namespace {

using namespace slabscope::bench;

constexpr std::size_t kSlots = 64;
constexpr std::size_t kBlocks = 100;

struct Parcel {
  Block blocks[kBlocks];
};

class Board {
 public:
  Parcel* swap(std::size_t slot, Parcel* parcel) {
    const std::scoped_lock lock(mutex_);
    return std::exchange(slots_[slot], parcel);
  }

 private:
  std::mutex mutex_;
  Parcel* slots_[kSlots] = {};
};

std::uint64_t unpack(Parcel* parcel) {
  if (parcel == nullptr)
    return 0;
  std::uint64_t sum = 0;
  for (Block& block : parcel->blocks)
    sum += block.release();
  delete parcel;
  return sum;
}

std::uint64_t work(Board& board, std::uint64_t parcels, std::uint64_t seed) {
  Random random(seed);
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < parcels; ++i) {
    auto* parcel = new Parcel;
    for (Block& block : parcel->blocks)
      block.allocate(skewed_size(random), i);
    sum += unpack(board.swap(random.below(kSlots), parcel));
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments(argc, argv, "exchange: threads that free each other's batches");
  const std::size_t threads = arguments.number("threads", 4, 4, "threads");
  const std::uint64_t parcels = arguments.number("parcels", 15'000, 100, "batches of each thread");
  arguments.check();

  Run run("exchange");
  const auto board = std::make_unique<Board>();
  std::vector<std::uint64_t> sums(threads);
  std::vector<std::thread> workers;
  for (std::size_t i = 0; i < threads; ++i)
    workers.emplace_back([&, i] { sums[i] = work(*board, parcels, arguments.seed() + i); });
  for (std::thread& worker : workers)
    worker.join();
  std::uint64_t sum = 0;
  for (const std::uint64_t part : sums)
    sum += part;
  for (std::size_t slot = 0; slot < kSlots; ++slot)
    sum += unpack(board->swap(slot, nullptr));
  return run.finish(threads * parcels * (kBlocks + 1), sum);
}
