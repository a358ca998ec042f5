// SPDX-License-Identifier: MIT
//
// What is asked of all threads: other intervals between samples, lists given back; and the bell.

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "slab/cache/thread_cache.h"
#include "slab/cache/thread_registry.h"
#include "tests/slab/cache/tracked_records.h"
#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

using testing::in_fresh_slot;

constexpr size_t kSize = 48;

// What the hooks saw. Distances are what a test says of an interval: 1 is all, 0 none.
struct Watch : testing::TrackedRecords {
  std::map<uint32_t, uint64_t> by_interval;  // tracked objects
  uint32_t distance = 10;
};
Watch* g_watch = nullptr;

class RequestsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    g_watch = &watch_;
    g_hooks.sample_distance = [](uint64_t*, size_t, uint32_t interval) -> uint64_t {
      return interval == 0 ? kNever : interval == 1 ? 0 : g_watch->distance;
    };
    g_hooks.sample_bytes = [](uint64_t*, uint32_t interval) -> uint64_t {
      return interval == 0 ? kNever : interval == 1 ? 0 : uint64_t{1} << 20;
    };
    g_hooks.track = [](const void* object, size_t, size_t, unsigned, uint32_t, uint32_t interval) {
      std::lock_guard lock(g_watch->mutex);
      ++g_watch->by_interval[interval];
      return g_watch->add(object);
    };
    g_hooks.untrack = [](uint32_t record, const void* object) {
      std::lock_guard lock(g_watch->mutex);
      g_watch->remove(record, object);
    };
    set_sampling(0);
  }
  void TearDown() override {
    set_sampling(0);
    EXPECT_EQ(watch_.errors, 0);
    EXPECT_TRUE(watch_.records.empty());  // each tracked object was untracked once
    testing::validate_heap();
  }

  static std::vector<void*> take(int count) {
    std::vector<void*> objects;
    for (int i = 0; i < count; ++i)
      objects.push_back(allocate(kSize));
    return objects;
  }
  static void give(const std::vector<void*>& objects) {
    for (void* object : objects)
      deallocate(object);
  }
  static uint64_t tracked(uint32_t interval) { return g_watch->by_interval[interval]; }

  Watch watch_;
  testing::HooksGuard hooks_;
};

TEST_F(RequestsTest, EachModeTracksWhatItSaysFromItsFirstAllocationOn) {
  in_fresh_slot([] {
    std::vector<std::vector<void*>> kept;
    kept.push_back(take(500));
    EXPECT_TRUE(g_watch->by_interval.empty());
    set_sampling(1);
    kept.push_back(take(500));
    EXPECT_EQ(tracked(1), 500U);
    set_sampling(4096);
    kept.push_back(take(500));
    EXPECT_EQ(tracked(4096), 50U);
    g_watch->distance = 50;
    set_sampling(65536);
    kept.push_back(take(500));
    EXPECT_EQ(tracked(65536), 10U);
    set_sampling(0);
    kept.push_back(take(500));
    EXPECT_EQ(tracked(1), 500U);
    EXPECT_EQ(tracked(4096), 50U);
    EXPECT_EQ(tracked(65536), 10U);
    for (const std::vector<void*>& objects : kept)
      give(objects);  // tracked and untracked ones, whatever the mode is now
  });
}

TEST_F(RequestsTest, ASwitchToTheSameIntervalDrawsAnew) {
  in_fresh_slot([] {
    g_watch->distance = 100;
    set_sampling(4096);
    const std::vector<void*> first = take(60);
    set_sampling(4096);
    const std::vector<void*> second = take(99);
    EXPECT_EQ(tracked(4096), 0U);
    void* sample = allocate(kSize);
    EXPECT_EQ(tracked(4096), 1U);
    deallocate(sample);
    give(first);
    give(second);
  });
}

TEST_F(RequestsTest, LargeBlocksFollowToo) {
  in_fresh_slot([] {
    constexpr size_t kLarge = 100000;
    void* before = allocate(kLarge);
    set_sampling(1);
    void* all = allocate(kLarge);
    EXPECT_EQ(tracked(1), 1U);
    set_sampling(0);
    void* after = allocate(kLarge);
    EXPECT_EQ(tracked(1), 1U);
    for (void* block : {before, all, after})
      deallocate(block);
  });
}

TEST_F(RequestsTest, AThreadThatIsBetweenTwoVisitsFollowsAtItsNext) {
  in_fresh_slot([] {
    std::atomic<int> step{0};
    std::thread other([&step] {
      std::vector<void*> objects = take(100);
      step = 1;
      while (step != 2)
        std::this_thread::yield();
      const std::vector<void*> more = take(Config::kBinMaxObjects + 100);
      EXPECT_GE(tracked(1), 100U);  // all but what lay on its list
      objects.insert(objects.end(), more.begin(), more.end());
      give(objects);
    });
    while (step != 1)
      std::this_thread::yield();
    set_sampling(1);
    step = 2;
    other.join();
  });
}

TEST_F(RequestsTest, CountsStayExactWhileModesChangeUnderThreads) {
  in_fresh_slot([] {
    constexpr int kThreads = 4;
    constexpr int kRounds = 4000;
    const unsigned id = SizeClass::id_of(kSize);
    const CounterPair before = g_threads.total(id);
    std::atomic<int> running{kThreads};
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&running, i] {
        testing::Random random(static_cast<uint64_t>(i) + 1);
        std::vector<void*> live;
        for (int round = 0; round < kRounds; ++round) {
          if (live.size() < 200 || random.below(2) == 0) {
            live.push_back(allocate(kSize));
          } else {
            const size_t index = random.below(live.size());
            deallocate(live[index]);
            live[index] = live.back();
            live.pop_back();
          }
        }
        give(live);
        --running;
      });
    }
    for (uint32_t turn = 0; running != 0; ++turn) {
      const uint32_t intervals[] = {1, 4096, 0, 65536};
      set_sampling(intervals[turn % 4]);
      std::this_thread::yield();
    }
    for (std::thread& thread : threads)
      thread.join();
    const CounterPair after = g_threads.total(id);
    EXPECT_EQ(after.allocs - before.allocs, after.frees - before.frees);
    EXPECT_GE(after.allocs - before.allocs, uint64_t{kThreads} * 200);
  });
}

TEST_F(RequestsTest, AFlushEmptiesTheListsOfThreadsAtTheirNextVisit) {
  in_fresh_slot([] {
    give(take(300));
    request_flush();
    deallocate(allocate(100000));  // a visit
    const unsigned id = SizeClass::id_of(kSize);
    EXPECT_EQ(bin_at(t_bins, id * sizeof(Bin))->head, nullptr);
  });
}

TEST_F(RequestsTest, TheBellIsHeardAtTheNextVisitUntilItIsAnswered) {
  static uint32_t word;
  static int heard;
  const Bell quiet = g_bell;
  word = 0;
  heard = 0;
  g_bell = {.word = &word, .heard = 0};
  g_hooks.rung = [] {
    if (++heard == 2)
      g_bell.heard = word;
  };
  in_fresh_slot([] {
    const auto visit = [] { deallocate(allocate(100000)); };
    visit();
    EXPECT_EQ(heard, 0);
    word = 7;
    visit();
    EXPECT_EQ(heard, 1);
    visit();
    visit();
    EXPECT_EQ(heard, 2);
  });
  g_bell = quiet;
}

}  // namespace
}  // namespace slabscope
