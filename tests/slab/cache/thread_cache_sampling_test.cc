// SPDX-License-Identifier: MIT
//
// ThreadCache: which allocations are tracked. With a fixed distance d between samples, exactly each
// d-th allocation of an id is, whatever is freed in between.

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "slab/cache/thread_cache.h"
#include "tests/slab/cache/tracked_records.h"
#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

using testing::in_fresh_slot;

// What the hooks saw.
struct Watch : testing::TrackedRecords {
  uint64_t distance = kNever;
  uint64_t distance_bytes = kNever;
  uint64_t tracked = 0;
  uint64_t retracked = 0;
  size_t last_requested = 0;
};
Watch* g_watch = nullptr;

class SamplingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    g_watch = &watch_;
    g_hooks.sample_distance = [](uint64_t*, size_t, uint32_t) { return g_watch->distance; };
    g_hooks.sample_bytes = [](uint64_t*, uint32_t) { return g_watch->distance_bytes; };
    g_hooks.track = [](const void* object, size_t requested, size_t, unsigned, uint32_t, uint32_t) {
      std::lock_guard lock(g_watch->mutex);
      ++g_watch->tracked;
      g_watch->last_requested = requested;
      return g_watch->add(object);
    };
    g_hooks.untrack = [](uint32_t record, const void* object) {
      std::lock_guard lock(g_watch->mutex);
      g_watch->remove(record, object);
    };
    g_hooks.retrack = [](uint32_t record, const void* object, size_t requested) {
      std::lock_guard lock(g_watch->mutex);
      ++g_watch->retracked;
      g_watch->last_requested = requested;
      std::erase_if(g_watch->records,
                    [record](const auto& entry) { return entry.second == record; });
      g_watch->records[object] = record;
      return record;
    };
  }
  void TearDown() override {
    EXPECT_EQ(watch_.errors, 0);
    EXPECT_TRUE(watch_.records.empty());  // each tracked object was untracked once
    testing::validate_heap();
  }

  Watch watch_;
  testing::HooksGuard hooks_;
};

// Allocates in a slot and says of each allocation whether it must be the sample.
class Sampler {
 public:
  void* take(size_t size) {
    const unsigned id = SizeClass::id_of(size);
    const auto known = left_.find(id);
    uint64_t left = known != left_.end() ? known->second : g_watch->distance;
    if (left == 0)
      left = 1;
    const uint64_t tracked = g_watch->tracked;
    void* object = allocate(size);
    const bool was_tracked = g_watch->tracked != tracked;
    if (was_tracked != (left == 1)) {
      ++wrong_;
      if (first_wrong_.empty()) {
        first_wrong_ = std::string(was_tracked ? "early" : "late") + " for size " +
                       std::to_string(size) + ", allocation " + std::to_string(count_);
      }
    }
    left_[id] = was_tracked ? g_watch->distance : left > 1 ? left - 1 : 1;
    ++count_;
    return object;
  }
  uint64_t wrong() const { return wrong_; }
  const std::string& first_wrong() const { return first_wrong_; }

 private:
  std::map<unsigned, uint64_t> left_;
  uint64_t count_ = 0;
  uint64_t wrong_ = 0;
  std::string first_wrong_;
};

enum class Order { kLifo, kFifo, kBatches, kRandom };

// `count` allocations of `size`, or of mixed sizes if that is 0, with frees in the order asked for.
void churn(Sampler* sampler, Order order, size_t size, int count, uint64_t seed) {
  testing::Random random(seed);
  std::deque<void*> live;
  const auto take = [&] { live.push_back(sampler->take(size != 0 ? size : random.below(3000))); };
  const auto drop = [&](size_t index) {
    deallocate(live[index]);
    live.erase(live.begin() + static_cast<ptrdiff_t>(index));
  };
  for (int i = 0; i < count; ++i) {
    switch (order) {
      case Order::kLifo:
        take();
        if (live.size() > 5)
          drop(live.size() - 1);
        break;
      case Order::kFifo:
        take();
        if (live.size() > 30)
          drop(0);
        break;
      case Order::kBatches:
        take();
        if (live.size() >= 600) {
          while (!live.empty())
            drop(live.size() - 1);
        }
        break;
      case Order::kRandom:
        take();
        while (!live.empty() && random.one_in(2))
          drop(random.below(live.size()));
        break;
    }
  }
  while (!live.empty())
    drop(live.size() - 1);
}

TEST_F(SamplingTest, ExactlyEachNthAllocationIsTrackedWhateverIsFreed) {
  in_fresh_slot([] {
    Sampler sampler;
    for (const uint64_t distance : {1UL, 2UL, 3UL, 7UL, 100UL, 1000UL}) {
      g_watch->distance = distance;
      for (const Order order : {Order::kLifo, Order::kFifo, Order::kBatches, Order::kRandom}) {
        const int count = distance > 10 ? 4000 : 1200;
        for (const size_t size : {16UL, 200UL, 1024UL, 3000UL, 32768UL, 0UL}) {
          churn(&sampler, order, size, size > 30000 ? 300 : count, distance);
          ASSERT_EQ(sampler.wrong(), 0U) << sampler.first_wrong() << ", distance " << distance
                                         << ", order " << static_cast<int>(order);
        }
      }
    }
    EXPECT_GT(g_watch->tracked, 10000U);
  });
}

TEST_F(SamplingTest, AThreadThatOnlyAllocatesIsSampledExactly) {
  in_fresh_slot([] {
    g_watch->distance = 100;
    Sampler sampler;
    std::vector<void*> objects;
    for (int i = 0; i < 20000; ++i)
      objects.push_back(sampler.take(64));
    EXPECT_EQ(sampler.wrong(), 0U) << sampler.first_wrong();
    EXPECT_EQ(g_watch->tracked, 200U);
    for (void* object : objects)
      deallocate(object);
  });
}

// What does not fit before the next sample lies beside the list.
TEST_F(SamplingTest, ASampleThatIsNearMakesNoThreadKeepMore) {
  in_fresh_slot([] {
    constexpr size_t kLarge = 20'480;
    constexpr size_t kMost = (2 * Config::kBinMaxBytes + Config::kBinEmptySlackBytes) / kLarge;
    const unsigned id = SizeClass::id_of(kLarge);
    const auto out = [id] { return stat_get(g_caches.stats(id).objects_out); };
    g_watch->distance = 25;
    Sampler sampler;
    void* first = sampler.take(kLarge);  // there is a cache now
    const uint64_t before = out();
    std::vector<void*> objects;
    for (int i = 0; i < 248; ++i)  // and the next one is the sample
      objects.push_back(sampler.take(kLarge));
    for (void* object : objects)
      deallocate(object);
    EXPECT_LE(out() - before, kMost);
    deallocate(first);
  });
}

TEST_F(SamplingTest, ObjectsOfOtherThreadsFreedHereDoNotMoveTheSample) {
  in_fresh_slot([] {
    g_watch->distance = kNever;
    std::vector<void*> foreign;
    in_fresh_slot([&foreign] {
      for (int i = 0; i < 5000; ++i)
        foreign.push_back(allocate(64));
    });
    g_watch->distance = 50;
    Sampler sampler;
    testing::Random random(testing::test_seed(61));
    std::vector<void*> mine;
    for (int i = 0; i < 5000; ++i) {
      if (!foreign.empty() && random.one_in(2)) {
        deallocate(foreign.back());
        foreign.pop_back();
      }
      mine.push_back(sampler.take(64));
      if (random.one_in(3)) {
        deallocate(mine.back());
        mine.pop_back();
      }
    }
    EXPECT_EQ(sampler.wrong(), 0U) << sampler.first_wrong();
    for (void* object : mine)
      deallocate(object);
    for (void* object : foreign)
      deallocate(object);
  });
}

TEST_F(SamplingTest, DistanceZeroTracksEverythingAndNeverTracksNothing) {
  in_fresh_slot([] {
    g_watch->distance = 0;
    for (int i = 1; i <= 2000; ++i) {
      void* object = allocate(static_cast<size_t>(i));
      ASSERT_EQ(g_watch->tracked, static_cast<uint64_t>(i));
      ASSERT_EQ(g_watch->records.count(object), 1U);
      ASSERT_EQ(g_watch->last_requested, static_cast<size_t>(i));
      deallocate(object);
    }
  });
  const uint64_t tracked = watch_.tracked;
  in_fresh_slot([] {
    g_watch->distance = kNever;
    for (int i = 0; i < 20000; ++i)
      deallocate(allocate(static_cast<size_t>(i % 2000)));
  });
  EXPECT_EQ(watch_.tracked, tracked);
}

TEST_F(SamplingTest, TrackedObjectsAreCountedAsAllOthers) {
  in_fresh_slot([] {
    g_watch->distance = 3;
    std::vector<void*> objects;
    for (int i = 0; i < 3000; ++i)
      objects.push_back(allocate(48));
    EXPECT_EQ(testing::my_counters(3).allocs, 3000U);
    for (void* object : objects)
      deallocate(object);
    EXPECT_EQ(testing::my_counters(3).frees, 3000U);
    EXPECT_EQ(g_watch->tracked, 1000U);
  });
}

TEST_F(SamplingTest, ThreadsFreeEachOthersTrackedObjectsOnce) {
  watch_.distance = 2;
  std::mutex mutex;
  std::vector<void*> shared;
  const auto body = [&](unsigned thread) {
    testing::Random random(thread);
    for (int i = 0; i < 3000; ++i) {
      void* fresh = allocate(random.below(500));
      void* old = nullptr;
      {
        std::lock_guard lock(mutex);
        shared.push_back(fresh);
        if (shared.size() > 200) {
          std::swap(shared[random.below(shared.size())], shared.back());
          old = shared.back();
          shared.pop_back();
        }
      }
      deallocate(old);
    }
  };
  // All used slots are held inside, so the threads' slots are fresh too.
  in_fresh_slot([&body] { testing::in_threads(4, body); });
  EXPECT_GE(watch_.tracked, 4 * (3000U / 2 - 32));  // each thread, each of its 32 ids
  testing::in_thread([&] {
    for (void* object : shared)
      deallocate(object);
  });
}

TEST_F(SamplingTest, WhatTheCaptureAllocatesIsNotTrackedAndMovesNoSample) {
  g_hooks.capture = []() -> uint32_t {
    void* objects[3];
    for (void*& object : objects)
      object = allocate(48);
    for (void* object : objects)
      deallocate(object);
    return 7;
  };
  in_fresh_slot([] {
    g_watch->distance = 5;
    Sampler sampler;
    std::vector<void*> objects;
    for (int i = 0; i < 1000; ++i)
      objects.push_back(sampler.take(48));
    EXPECT_EQ(sampler.wrong(), 0U) << sampler.first_wrong();
    EXPECT_EQ(g_watch->tracked, 200U);
    for (void* object : objects)
      deallocate(object);
  });
}

TEST_F(SamplingTest, ObjectsWithoutARecordAreFreedQuietly) {
  g_hooks.track = [](const void*, size_t, size_t, unsigned, uint32_t, uint32_t) {
    return uint32_t{0};
  };
  in_fresh_slot([] {
    g_watch->distance = 0;
    std::vector<void*> objects;
    for (int i = 0; i < 500; ++i)
      objects.push_back(allocate(100));
    for (void* object : objects)
      deallocate(object);  // untrack() would count an error
  });
}

TEST_F(SamplingTest, ReallocationInPlaceIsToldAndByCopyIsANewObject) {
  in_fresh_slot([] {
    g_watch->distance = 0;
    void* object = allocate(100);
    EXPECT_EQ(reallocate(object, 90), object);
    EXPECT_EQ(g_watch->retracked, 1U);
    EXPECT_EQ(g_watch->last_requested, 90U);
    void* moved = reallocate(object, 500);
    EXPECT_EQ(g_watch->tracked, 2U);
    EXPECT_EQ(g_watch->records.count(moved), 1U);
    EXPECT_EQ(g_watch->records.size(), 1U);
    deallocate(moved);
  });
}

TEST_F(SamplingTest, LargeBlocksAreTrackedByBytesAndFollowedWhenTheyMove) {
  watch_.distance_bytes = 1 << 20;
  in_fresh_slot([] {
    constexpr size_t kBytes = 100 << 10;
    std::vector<void*> blocks;
    for (int i = 1; i <= 40; ++i) {
      const uint64_t tracked = g_watch->tracked;
      blocks.push_back(allocate(kBytes));
      // Ten blocks leave 24 KiB of the mebibyte, which the eleventh exceeds.
      ASSERT_EQ(g_watch->tracked - tracked, i % 11 == 0 ? 1U : 0U) << i;
    }
    void*& tracked = blocks[10];
    ASSERT_EQ(g_watch->records.count(tracked), 1U);
    const uint32_t record = g_watch->records[tracked];
    tracked = reallocate(tracked, 60 << 10);
    EXPECT_EQ(g_watch->records[tracked], record);
    EXPECT_EQ(g_watch->last_requested, size_t{60} << 10);
    for (void* block : blocks)
      deallocate(block);
  });
}

using SamplingDeathTest = SamplingTest;

TEST_F(SamplingDeathTest, ATrackedObjectFreedTwicePanicsAtOnce) {
  watch_.distance = 0;
  EXPECT_DEATH(in_fresh_slot([] {
                 void* object = allocate(64);
                 deallocate(object);
                 deallocate(object);
               }),
               "slabscope: double free of 0x[0-9a-f]+ \\(its record is gone\\)");
  EXPECT_DEATH(in_fresh_slot([] { deallocate(static_cast<char*>(allocate(64)) + 16); }),
               "slabscope: invalid free of 0x[0-9a-f]+ \\(no object starts there\\)");
}

}  // namespace
}  // namespace slabscope
