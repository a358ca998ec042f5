// SPDX-License-Identifier: MIT
//
// PageHeap: memory on its way back to the kernel, and random operations against a model.

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <map>
#include <vector>

#include "slab/pages/page_heap.h"
#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

using testing::with_new_page_heap;

constexpr size_t kMib = 1 << 20;

size_t take(size_t count) {
  bool zeroed = false;
  return g_page_heap.allocate(count, 1, &zeroed);
}

char* memory_of(size_t index) {
  return static_cast<char*>(g_page_map.address_of(index));
}

void release_at(uint32_t now_ms, size_t index, size_t count) {
  g_page_heap.set_now(now_ms);
  g_page_heap.release(index, count);
}

TEST(PageHeap, PurgeGivesBackWhatIsOldEnoughAndNothingElse) {
  with_new_page_heap([] {
    const size_t old_run = take(4);
    const size_t between = take(1);
    const size_t young_run = take(6);
    (void)take(1);
    release_at(1000, old_run, 4);
    release_at(1400, young_run, 6);
    EXPECT_EQ(g_page_heap.purge(1499, 500), 0U);
    EXPECT_EQ(g_page_heap.purge(1500, 500), 4 * Config::kChunk);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 6 * Config::kChunk);
    EXPECT_EQ(g_heap_stats->released_bytes, 4 * Config::kChunk);
    EXPECT_EQ(g_page_heap.purge(1900, 500), 6 * Config::kChunk);
    EXPECT_EQ(g_page_heap.purge(9000, 500), 0U);
    EXPECT_EQ(g_heap_stats->release_runs, 2U);
    g_page_heap.release(between, 1);
  });
}

TEST(PageHeap, PurgedMemoryIsZeroAndClean) {
  with_new_page_heap([] {
    const size_t run = take(8);
    std::memset(memory_of(run), 'x', 8 * Config::kChunk);
    release_at(0, run, 8);
    ASSERT_EQ(g_page_heap.purge(10, 0), 8 * Config::kChunk);
    bool zeroed = false;
    const size_t index = g_page_heap.allocate(Config::kChunksPerSegment, 1, &zeroed);
    EXPECT_EQ(index, run);  // one clean run with its neighbours again
    EXPECT_TRUE(zeroed);
    for (size_t i = 0; i < 8 * Config::kChunk; ++i)
      ASSERT_EQ(memory_of(run)[i], 0);
  });
}

TEST(PageHeap, MappedBytesDoNotChangeWhenPagesGoBack) {
  with_new_page_heap([] {
    const size_t run = take(8);
    release_at(0, run, 8);
    const uint64_t before = g_heap_stats->mapped_free_bytes;
    g_page_heap.purge(10, 0);
    EXPECT_EQ(g_heap_stats->mapped_free_bytes, before);
    EXPECT_EQ(testing::walk_window().free, before);
  });
}

TEST(PageHeap, ARefusedPurgeKeepsTheRunDirty) {
  with_new_page_heap([] {
    const size_t run = take(4);
    memory_of(run)[0] = 'x';
    ASSERT_EQ(syscall(SYS_mlock, memory_of(run), 4096),
              0);  // the kernel does not drop locked pages
    release_at(0, run, 4);
    EXPECT_EQ(g_page_heap.purge(10, 0), 0U);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 4 * Config::kChunk);
    bool zeroed = true;
    EXPECT_EQ(g_page_heap.allocate(4, 1, &zeroed), run);
    EXPECT_FALSE(zeroed);
    EXPECT_EQ(memory_of(run)[0], 'x');
  });
}

TEST(PageHeap, PurgeKeepsDirtyBytesUnderTheFloorHoweverYoung) {
  if (testing::kThreadSanitizer)
    GTEST_SKIP() << "the runs may not lie one behind the other";
  with_new_page_heap([] {
    constexpr size_t kRun = kMib / Config::kChunk;
    std::vector<size_t> runs;
    for (int i = 0; i < 48; ++i) {
      runs.push_back(take(kRun));
      (void)take(1);
    }
    for (const size_t run : runs)
      release_at(100, run, kRun);
    EXPECT_EQ(g_page_heap.purge(100, 1000000), 48 * kMib - Config::kDirtyFloor);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, Config::kDirtyFloor);
    // The oldest went first: the last released are still dirty.
    EXPECT_TRUE(g_page_map.chunk(runs[47])->dirty);
    EXPECT_FALSE(g_page_map.chunk(runs[1])->dirty);
  });
}

TEST(PageHeap, GrowthGivesBackWhatIsAboveTheBoundAndNoMore) {
  with_new_page_heap([] {
    const size_t run = take(40 * kMib / Config::kChunk);
    g_page_heap.after_fresh(PageHeap::Grown::kToLast);
    release_at(100, run, kMib / Config::kChunk);
    g_page_heap.after_fresh(PageHeap::Grown::kToLast);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, kMib);
    release_at(100, run + kMib / Config::kChunk, 39 * kMib / Config::kChunk);
    g_page_heap.after_fresh(PageHeap::Grown::kToLast);
    EXPECT_LE(g_heap_stats->free_dirty_bytes, Config::kDirtyFloor);
  });
}

TEST(PageHeap, TheBoundOnDirtyBytesGrowsWithWhatIsInUse) {
  with_new_page_heap([] {
    const size_t used = take(400 * kMib / Config::kChunk);
    const size_t freed = take(90 * kMib / Config::kChunk);
    release_at(100, freed, 90 * kMib / Config::kChunk);
    EXPECT_EQ(g_page_heap.purge(100, 1000000), 0U);  // a quarter of 400 MiB may stay
    release_at(100, used, 100 * kMib / Config::kChunk);
    EXPECT_GT(g_page_heap.purge(100, 1000000), 0U);
  });
}

constexpr size_t chunks_of(size_t mebibytes) {
  return mebibytes * kMib / Config::kChunk;
}

// In use: 100 MiB, the most so far. Then 10 of them are free, and dirty.
size_t use_100_and_free_10() {
  const size_t run = take(chunks_of(100));
  g_page_heap.after_fresh(PageHeap::Grown::kToLast);
  release_at(100, run, chunks_of(10));
  return run;
}

TEST(PageHeap, WhatMakesItLargerThanEverGoesBack) {
  with_new_page_heap([] {
    (void)use_100_and_free_10();
    (void)take(chunks_of(12));  // fits into nothing that is free
    g_page_heap.after_fresh(PageHeap::Grown::kForABlock);
    EXPECT_LE(g_heap_stats->free_dirty_bytes, 102 * kMib / Config::kPeakDirtyFraction);
    EXPECT_GT(g_heap_stats->free_dirty_bytes, 102 * kMib / Config::kPeakDirtyFraction - kMib);
  });
}

TEST(PageHeap, OnlyAsMuchGoesBackAsItGrew) {
  with_new_page_heap([] {
    const size_t run = use_100_and_free_10();
    release_at(100, run + chunks_of(20), chunks_of(6));
    g_page_heap.after_fresh(PageHeap::Grown::kForABlock);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 16 * kMib);  // it has not grown
    (void)take(chunks_of(11));
    g_page_heap.after_fresh(PageHeap::Grown::kForABlock);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 5 * kMib);
  });
}

TEST(PageHeap, WhatGoesBackToKeepThePeakIsBounded) {
  with_new_page_heap([] {
    constexpr size_t kTimes = 100;
    const size_t most = (100 + 2 * 10 + 4) * kMib;
    (void)use_100_and_free_10();
    size_t last = PageHeap::kNoRun;
    for (size_t i = 0; i < kTimes; ++i) {  // each time what is free is too small by a chunk
      const size_t next = take(chunks_of(10) + 1 + i);
      g_page_heap.after_fresh(PageHeap::Grown::kForABlock);
      if (last != PageHeap::kNoRun)
        release_at(100, last, chunks_of(10) + i);
      last = next;
      (void)take(1);
    }
    EXPECT_GT(g_heap_stats->released_bytes, 100 * kMib);
    EXPECT_LE(g_heap_stats->released_bytes, most * Config::kPeakGivenBack);
  });
}

TEST(PageHeap, PurgeEndsNoSoonerThanTheLastOldRun) {
  with_new_page_heap([] {
    constexpr int kRuns = 700;
    std::vector<size_t> runs;
    for (int i = 0; i < kRuns; ++i) {
      runs.push_back(take(1));
      (void)take(1);
    }
    for (const size_t run : runs)
      release_at(0, run, 1);
    EXPECT_EQ(g_page_heap.purge(10, 0), kRuns * Config::kChunk);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 0U);
  });
}

TEST(PageHeap, AClockReadBeforeTheReleaseDoesNotMakeTheRunOld) {
  with_new_page_heap([] {
    const size_t run = take(4);
    release_at(1001, run, 4);                     // one thread's clock ...
    EXPECT_EQ(g_page_heap.purge(1000, 500), 0U);  // ... and a slower thread's
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 4 * Config::kChunk);
  });
}

TEST(PageHeap, AgesAreRightWhenTheClockWraps) {
  with_new_page_heap([] {
    const size_t run = take(4);
    release_at(UINT32_MAX - 10, run, 4);
    EXPECT_EQ(g_page_heap.purge(100, 500), 0U);
    EXPECT_EQ(g_page_heap.purge(489, 500), 4 * Config::kChunk);
  });
}

// ---- random operations ----------------------------------------------------------------------

struct ModelRun {
  size_t count;
  char mark;
};

class PageHeapModel {
 public:
  explicit PageHeapModel(uint64_t seed) : random_(seed) {}

  void step() {
    const uint64_t what = random_.below(100);
    if (runs_.size() < 40 || what < 45) {
      allocate();
    } else if (what < 85) {
      release();
    } else if (what < 95) {
      extend();
    } else {
      g_page_heap.set_now(++now_ms_);
      g_page_heap.purge(now_ms_, static_cast<uint32_t>(random_.below(40)));
    }
  }

  void check() const {
    g_page_heap.validate();
    size_t used = 0;
    for (const auto& [index, run] : runs_) {
      ASSERT_TRUE(holds(index, run)) << index;
      used += run.count * Config::kChunk;
    }
    const auto walked = testing::walk_window();
    ASSERT_EQ(walked.free, stat_get(g_heap_stats->mapped_free_bytes));
    ASSERT_EQ(walked.dirty, stat_get(g_heap_stats->free_dirty_bytes));
    mapped_ = mapped_ == 0 ? walked.free + used : mapped_;
    ASSERT_GE(walked.free + used, mapped_);  // nothing is lost
    mapped_ = walked.free + used;
    ASSERT_EQ(mapped_ % Config::kSegment, 0U);
  }

  void release_all() {
    while (!runs_.empty())
      release();
  }

 private:
  // The first and last words of each chunk carry the run's mark.
  static void mark(size_t index, size_t count, char value) {
    for (size_t i = 0; i < count; ++i) {
      memory_of(index + i)[0] = value;
      memory_of(index + i)[Config::kChunk - 1] = value;
    }
  }
  static bool holds(size_t index, const ModelRun& run) {
    for (size_t i = 0; i < run.count; ++i) {
      if (memory_of(index + i)[0] != run.mark)
        return false;
      if (memory_of(index + i)[Config::kChunk - 1] != run.mark)
        return false;
    }
    return true;
  }
  static void expect_zero(size_t index, size_t count) {
    for (size_t i = 0; i < count * Config::kChunk; i += 64)
      ASSERT_EQ(memory_of(index)[i], 0);
    ASSERT_TRUE(holds(index, {count, 0}));
  }

  void enter(size_t index, size_t count) {
    const auto after = runs_.lower_bound(index);
    ASSERT_TRUE(after == runs_.end() || index + count <= after->first);
    if (after != runs_.begin()) {
      const auto before = std::prev(after);
      ASSERT_LE(before->first + before->second.count, index);
    }
    const char value = static_cast<char>(1 + random_.below(100));
    runs_[index] = {count, value};
    mark(index, count, value);
  }

  void allocate() {
    const size_t count = 1 + random_.below(random_.one_in(8) ? 700 : 20);
    const size_t alignment = random_.one_in(4) ? size_t{1} << random_.below(9) : 1;
    bool zeroed = false;
    const size_t index = g_page_heap.allocate(count, alignment, &zeroed);
    ASSERT_NE(index, PageHeap::kNoRun);
    ASSERT_EQ(index % alignment, 0U);
    if (zeroed)
      expect_zero(index, count);
    enter(index, count);
  }
  std::map<size_t, ModelRun>::iterator any() {
    auto found = runs_.begin();
    std::advance(found, random_.below(runs_.size()));
    return found;
  }
  void release() {
    const auto victim = any();
    ASSERT_TRUE(holds(victim->first, victim->second));
    g_page_heap.release(victim->first, victim->second.count);
    runs_.erase(victim);
  }
  void extend() {
    const auto found = any();
    const size_t index = found->first;
    const size_t count = found->second.count;
    const size_t wanted = count + 1 + random_.below(8);
    if (!g_page_heap.extend(index, count, wanted))
      return;
    runs_.erase(found);
    enter(index, wanted);
  }

  testing::Random random_;
  std::map<size_t, ModelRun> runs_;
  uint32_t now_ms_ = 1;
  mutable size_t mapped_ = 0;
};

TEST(PageHeap, RandomOperationsKeepRunsApartAndTheirContents) {
  const uint64_t seed = testing::test_seed(31);
  SCOPED_TRACE("SLABSCOPE_TEST_SEED=" + std::to_string(seed));
  with_new_page_heap([seed] {
    PageHeapModel model(seed);
    for (int step = 0; step < 3000 && !::testing::Test::HasFailure(); ++step) {
      model.step();
      if (step % 100 == 0)
        model.check();
    }
    model.release_all();
    model.check();
    EXPECT_EQ(testing::walk_window().large + testing::walk_window().slabs, 0U);
  });
}

TEST(PageHeap, ThreadsNeverShareARun) {
  with_new_page_heap([] {
    std::atomic<int> clashes{0};
    testing::in_threads(4, [&clashes](unsigned thread) {
      testing::Random random(thread);
      std::map<size_t, size_t> runs;
      for (uint32_t step = 0; step < 3000; ++step) {
        if (runs.size() < 8 || random.one_in(2)) {
          const size_t count = 1 + random.below(12);
          const size_t index = take(count);
          memory_of(index)[0] = static_cast<char>(thread + 1);
          runs[index] = count;
        } else {
          const auto victim = runs.begin();
          if (memory_of(victim->first)[0] != static_cast<char>(thread + 1))
            ++clashes;
          g_page_heap.release(victim->first, victim->second);
          runs.erase(victim);
        }
        if (step % 50 == 0)
          g_page_heap.purge(step, 10);
      }
      for (const auto& [index, count] : runs)
        g_page_heap.release(index, count);
    });
    EXPECT_EQ(clashes.load(), 0);
    EXPECT_EQ(testing::walk_window().free, g_heap_stats->mapped_free_bytes);
  });
}

}  // namespace
}  // namespace slabscope
