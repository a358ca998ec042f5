// SPDX-License-Identifier: MIT
//
// Channel: a bounded queue of batches between threads that makes no calls to the allocator.
//
//   producer ─► put() ─► [batch][batch][ … ] ─► take() ─► consumer
//
// Invariants
//   1. count_ <= kSlots; batches leave in the order they came.
//   2. A thread that has to wait sleeps: waiting costs no CPU time, which is what is measured.
// Batches are handed over whole, so that the lock is a small part of the cost of a block.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <mutex>

#include "bench/support/bench.h"

namespace slabscope::bench {

struct Batch {
  static constexpr std::size_t kBlocks = 128;
  std::array<Block, kBlocks> blocks;
};

class Channel {
 public:
  void put(const Batch& batch) {
    std::unique_lock lock(mutex_);
    not_full_.wait(lock, [this] { return count_ < kSlots; });
    ring_[(first_ + count_) % kSlots] = batch;
    ++count_;
    lock.unlock();
    not_empty_.notify_one();
  }

  // False when the channel is closed and drained.
  bool take(Batch& batch) {
    std::unique_lock lock(mutex_);
    not_empty_.wait(lock, [this] { return count_ > 0 || closed_; });
    if (count_ == 0)
      return false;
    batch = ring_[first_];
    first_ = (first_ + 1) % kSlots;
    --count_;
    lock.unlock();
    not_full_.notify_one();
    return true;
  }

  void close() {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    not_empty_.notify_all();
  }

 private:
  static constexpr std::size_t kSlots = 16;
  std::mutex mutex_;
  std::condition_variable not_full_;
  std::condition_variable not_empty_;
  std::array<Batch, kSlots> ring_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  bool closed_ = false;
};

}  // namespace slabscope::bench
