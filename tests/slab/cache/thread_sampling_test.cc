// SPDX-License-Identifier: MIT
//
// How often a thread samples: a hurry makes its draws longer, leisure makes them short again, and
// each sample carries the interval that it was drawn with.

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "slab/base/clock.h"
#include "slab/cache/thread_cache.h"
#include "tests/slab/cache/tracked_records.h"
#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

using testing::in_fresh_slot;

constexpr uint32_t kUnthinned = Config::kSampleInterval;
constexpr uint32_t kMostThinned = Config::kSampleInterval << Config::kMaxThinning;
constexpr size_t kSize = 4096;
constexpr uint64_t kDistance = 5;

// What the hooks saw: the intervals of draws and samples, in their order.
struct Watch : testing::TrackedRecords {
  std::map<size_t, uint32_t> drawn;  // by object size: the draw that is to come
  std::vector<uint32_t> intervals;
  uint32_t large_drawn = 0;
  int wrong = 0;  // samples with another interval than their draw
};
Watch* g_watch = nullptr;

class Pace : public ::testing::Test {
 protected:
  void SetUp() override {
    g_watch = &watch_;
    g_hooks.sample_distance = [](uint64_t*, size_t size, uint32_t interval) -> uint64_t {
      if (interval <= 1)
        return interval == 0 ? kNever : 0;
      g_watch->drawn[size] = interval;
      return kDistance;
    };
    g_hooks.sample_bytes = [](uint64_t*, uint32_t interval) -> uint64_t {
      if (interval <= 1)
        return interval == 0 ? kNever : 0;
      g_watch->large_drawn = interval;
      return 1;
    };
    g_hooks.track = [](const void* object, size_t requested, size_t size, unsigned, uint32_t,
                       uint32_t interval) {
      if (requested <= Config::kSmallMax)
        g_watch->wrong += g_watch->drawn[size] != interval ? 1 : 0;
      g_watch->intervals.push_back(interval);
      return g_watch->add(object);
    };
    g_hooks.untrack = [](uint32_t record, const void* object) { g_watch->remove(record, object); };
  }
  void TearDown() override {
    set_sampling(0);
    EXPECT_EQ(watch_.errors, 0);
    EXPECT_EQ(watch_.wrong, 0);
    EXPECT_TRUE(watch_.records.empty());
    testing::validate_heap();
  }

  // Pairs, until a sample was drawn with `interval`; false after as many as no machine needs.
  static bool hurry_until(uint32_t interval, size_t size = kSize) {
    for (int i = 0; i < 50'000'000; ++i) {
      deallocate(allocate(size));
      if (!g_watch->intervals.empty() && g_watch->intervals.back() == interval)
        return true;
    }
    return false;
  }
  static void let_pass(uint64_t ms) {
    const uint64_t until = coarse_monotonic_ns() + ms * 1'000'000;
    while (coarse_monotonic_ns() < until) {
    }
  }
  // Visits of another class than the one that is sampled.
  static void visit_often() {
    for (uint32_t i = 0; i < 4 * Config::kVisitsPerTick; ++i) {
      std::vector<void*> blocks(400);
      for (void*& block : blocks)
        block = allocate(48);
      for (void* block : blocks)
        deallocate(block);
    }
  }

  Watch watch_;
  testing::HooksGuard hooks_;
};

TEST_F(Pace, AHurryDoublesTheIntervalStepByStep) {
  in_fresh_slot([] {
    set_sampling(kUnthinned);
    ASSERT_TRUE(hurry_until(kMostThinned));
    ASSERT_TRUE(hurry_until(kMostThinned));
    uint32_t expected = kUnthinned;
    std::map<uint32_t, uint32_t> taken;
    for (const uint32_t interval : g_watch->intervals) {
      if (interval != expected) {
        EXPECT_EQ(interval, 2 * expected) << "after " << taken[expected];
      }
      expected = interval;
      ++taken[interval];
    }
    for (const auto& [interval, count] : taken) {
      if (interval != kMostThinned) {
        // All count once, but for one or two in which the thread had to wait for a processor.
        EXPECT_GE(count, Config::kPacedSamples / 2) << interval;
      }
    }
  });
}

TEST_F(Pace, ASampleThatTakesLongCountsForMany) {
  constexpr uint32_t kLong = 10;
  g_hooks.capture = []() -> uint32_t {
    const uint64_t until = monotonic_ns() + kLong * Config::kPacedNs;
    while (monotonic_ns() < until) {
    }
    return 0;
  };
  in_fresh_slot([] {
    set_sampling(kUnthinned);
    ASSERT_TRUE(hurry_until(2 * kUnthinned));
    const size_t taken = g_watch->intervals.size() - 1;  // the last is of the new draw
    EXPECT_GE(taken, Config::kPacedSamples / Config::kMostPaced);
    // A thread that was kept waiting starts again, so not just kPacedSamples / kLong.
    EXPECT_LE(taken, Config::kPacedSamples / 2);
  });
}

TEST_F(Pace, WhoNamesAnIntervalGetsIt) {
  in_fresh_slot([] {
    for (const uint32_t interval : {kUnthinned / 2, kUnthinned * 2, 4096U}) {
      g_watch->intervals.clear();
      set_sampling(interval);
      for (uint32_t i = 0; i < 100 * Config::kPacedSamples; ++i)
        deallocate(allocate(kSize));
      EXPECT_EQ(g_watch->intervals.size(), 100 * Config::kPacedSamples / kDistance);
      EXPECT_EQ(std::set<uint32_t>(g_watch->intervals.begin(), g_watch->intervals.end()),
                std::set<uint32_t>{interval});
    }
  });
}

TEST_F(Pace, LeisureBringsTheShortDrawsBack) {
  in_fresh_slot([] {
    set_sampling(kUnthinned);
    ASSERT_TRUE(hurry_until(kMostThinned));
    // The draws of all classes, not only of the one that hurried, and without a sample of its own.
    const size_t samples = g_watch->intervals.size();
    g_hooks.sample_distance = [](uint64_t*, size_t size, uint32_t interval) -> uint64_t {
      g_watch->drawn[size] = interval;
      return 1 << 30;
    };
    for (int round = 0; round < 100 && g_watch->drawn[48] != kUnthinned; ++round) {
      let_pass(300);
      visit_often();
    }
    EXPECT_EQ(g_watch->drawn[48], kUnthinned);
    EXPECT_EQ(g_watch->drawn[kSize], kUnthinned);
    EXPECT_LE(g_watch->intervals.size(), samples + 2);  // what was due was taken
  });
}

TEST_F(Pace, ASwitchStartsUnthinned) {
  in_fresh_slot([] {
    set_sampling(kUnthinned);
    ASSERT_TRUE(hurry_until(4 * kUnthinned));
    set_sampling(4096);
    EXPECT_EQ(g_watch->drawn[kSize], 4096U);
    set_sampling(kUnthinned);
    EXPECT_EQ(g_watch->drawn[kSize], kUnthinned);
  });
}

TEST_F(Pace, LargeBlocksKeepTheIntervalOfTheirDrawToo) {
  in_fresh_slot([] {
    constexpr size_t kLarge = 100'000;
    set_sampling(kUnthinned);
    uint32_t drawn = g_watch->large_drawn;
    for (int i = 0; i < 50'000'000 && drawn != 4 * kUnthinned; ++i) {
      void* block = allocate(kLarge);
      ASSERT_EQ(g_watch->intervals.back(), drawn);
      drawn = g_watch->large_drawn;
      deallocate(block);
    }
    EXPECT_EQ(drawn, 4 * kUnthinned);
  });
}

}  // namespace
}  // namespace slabscope
