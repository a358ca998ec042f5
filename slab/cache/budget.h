// SPDX-License-Identifier: MIT
//
// Budget: what a group holds in slabs and large blocks, and how much it may.
//
// Asked when a cache grows and when a large block is made, never for an object: what a slab has
// room for is given out whatever the limit says. Lock-free.

#pragma once

#include <atomic>
#include <cstdint>

#include "slab/base/stats.h"

namespace slabscope {

class Budget {
 public:
  constexpr Budget() = default;

  // Starts at nothing, without a limit. `stats` is what others see.
  void reset(GroupStats* stats) {
    stats_ = stats;
    used_.store(0, std::memory_order_relaxed);
    limit_.store(kNone, std::memory_order_relaxed);
  }
  // False if that is more than the limit leaves.
  [[nodiscard]] bool take(uint64_t bytes) {
    const uint64_t limit = limit_.load(std::memory_order_relaxed);
    uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      if (used + bytes > limit)
        return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    stat_add(stats_->held_bytes, bytes);
    return true;
  }
  // Whatever the limit says.
  void add(uint64_t bytes) {
    used_.fetch_add(bytes, std::memory_order_relaxed);
    stat_add(stats_->held_bytes, bytes);
  }
  void give(uint64_t bytes) {
    used_.fetch_sub(bytes, std::memory_order_relaxed);
    stat_sub(stats_->held_bytes, bytes);
  }
  // 0: none. What is held already may be more: then nothing is added to it.
  void set_limit(uint64_t bytes) {
    limit_.store(bytes == 0 ? kNone : bytes, std::memory_order_relaxed);
    stat_set(stats_->limit_bytes, bytes);
  }
  bool limited() const { return limit_.load(std::memory_order_relaxed) != kNone; }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint64_t kNone = UINT64_MAX;

  std::atomic<uint64_t> used_{0};
  std::atomic<uint64_t> limit_{0};
  GroupStats* stats_ = nullptr;
};

}  // namespace slabscope
