// SPDX-License-Identifier: MIT
//
// PageHeap on its own: each test has a child with a new heap, so that what is free is known
// exactly.

#include "slab/pages/page_heap.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "slab/pages/vm.h"
#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

using testing::with_new_page_heap;

// Under ThreadSanitizer the window lies where the kernel puts other mappings too.
constexpr bool kWindowIsShared = testing::kThreadSanitizer;
constexpr char kShared[] = "what lies above the heap is not known";

constexpr size_t kSegmentChunks = Config::kChunksPerSegment;

struct PageRun {
  size_t index = PageHeap::kNoRun;
  size_t count = 0;
  bool zeroed = false;
  char* memory() const { return static_cast<char*>(g_page_map.address_of(index)); }
  size_t bytes() const { return count << Config::kChunkShift; }
};

PageRun take(size_t count, size_t alignment = 1) {
  PageRun run;
  run.count = count;
  run.index = g_page_heap.allocate(count, alignment, &run.zeroed);
  return run;
}
void give(const PageRun& run) {
  g_page_heap.release(run.index, run.count);
}

bool all_zero(const PageRun& run) {
  for (size_t i = 0; i < run.bytes(); ++i) {
    if (run.memory()[i] != 0)
      return false;
  }
  return true;
}

// Runs of the given lengths, each followed by a chunk that stays in use.
std::vector<PageRun> separate_runs(const std::vector<size_t>& counts) {
  std::vector<PageRun> runs;
  for (const size_t count : counts) {
    PageRun run = take(count + 1);
    run.count = count;
    runs.push_back(run);
  }
  return runs;
}

TEST(PageHeap, ReleasedRunIsReusedBeforeTheKernelIsAsked) {
  with_new_page_heap([] {
    const PageRun first = take(kSegmentChunks);
    ASSERT_NE(first.index, PageHeap::kNoRun);
    const uint64_t segments = g_heap_stats->segments;
    for (int i = 0; i < 10; ++i) {
      give(first);
      ASSERT_EQ(take(kSegmentChunks).index, first.index);
    }
    EXPECT_EQ(g_heap_stats->segments, segments);
    give(first);
  });
}

TEST(PageHeap, FreshRunIsZeroAndMappedWhole) {
  with_new_page_heap([] {
    const PageRun run = take(10);
    ASSERT_NE(run.index, PageHeap::kNoRun);
    EXPECT_TRUE(run.zeroed);
    EXPECT_TRUE(all_zero(run));
    std::memset(run.memory(), 'x', run.bytes());
    EXPECT_EQ(g_heap_stats->mapped_free_bytes, Config::kSegment - run.bytes());
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 0U);
    give(run);
    EXPECT_EQ(g_heap_stats->mapped_free_bytes, Config::kSegment);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, run.bytes());
  });
}

TEST(PageHeap, DirtyRunsAreTakenBeforeCleanOnes) {
  with_new_page_heap([] {
    const PageRun run = take(20);
    give(run);
    const PageRun again = take(3);  // the clean rest would fit worse, but would cost page faults
    EXPECT_EQ(again.index, run.index);
    EXPECT_FALSE(again.zeroed);
  });
}

TEST(PageHeap, TheBestFittingDirtyRunIsTaken) {
  with_new_page_heap([] {
    const auto runs = separate_runs({10, 5, 7, 40});
    for (const PageRun& run : runs)
      give(run);
    EXPECT_EQ(take(6).index, runs[2].index);
    EXPECT_EQ(take(5).index, runs[1].index);
    EXPECT_EQ(take(8).index, runs[0].index);
    EXPECT_EQ(take(9).index, runs[3].index);
  });
}

TEST(PageHeap, TheBestFitIsFoundAmongLongRunsOfOneBinToo) {
  if (kWindowIsShared)
    GTEST_SKIP() << kShared;
  with_new_page_heap([] {
    const auto runs = separate_runs({300, 318, 310, 2100, 2050});
    for (const PageRun& run : runs)
      give(run);
    EXPECT_EQ(take(305).index, runs[2].index);
    EXPECT_EQ(take(290).index, runs[0].index);
    EXPECT_EQ(take(317).index, runs[1].index);
    EXPECT_EQ(take(2049).index, runs[4].index);
    EXPECT_EQ(take(2060).index, runs[3].index);
  });
}

TEST(PageHeap, DirtyNeighboursBecomeOneRun) {
  with_new_page_heap([] {
    const PageRun a = take(4);
    const PageRun b = take(5);
    const PageRun c = take(6);
    ASSERT_EQ(b.index, a.index + 4);
    ASSERT_EQ(c.index, b.index + 5);
    give(a);
    give(c);
    g_page_heap.validate();
    give(b);
    g_page_heap.validate();
    EXPECT_EQ(take(15).index, a.index);
  });
}

TEST(PageHeap, DirtyAndCleanNeighboursStayApart) {
  with_new_page_heap([] {
    const PageRun dirty = take(4);
    std::memset(dirty.memory(), 'x', dirty.bytes());
    give(dirty);
    const PageRun clean = take(5);  // would fit the two together
    EXPECT_TRUE(clean.zeroed);
    EXPECT_TRUE(all_zero(clean));
    EXPECT_EQ(clean.index, dirty.index + 4);
    EXPECT_EQ(take(4).index, dirty.index);
  });
}

TEST(PageHeap, RunsCoalesceAcrossSegments) {
  if (kWindowIsShared)
    GTEST_SKIP() << kShared;
  with_new_page_heap([] {
    const PageRun a = take(kSegmentChunks);
    const PageRun b = take(kSegmentChunks);
    ASSERT_EQ(b.index, a.index + kSegmentChunks);
    give(a);
    give(b);
    EXPECT_EQ(take(2 * kSegmentChunks).index, a.index);
  });
}

TEST(PageHeap, GrowthUsesTheCleanRestBelowTheTop) {
  if (kWindowIsShared)
    GTEST_SKIP() << kShared;
  with_new_page_heap([] {
    const PageRun first = take(kSegmentChunks - 100);
    const PageRun second = take(kSegmentChunks + 50);  // 100 are there: one segment more is enough
    EXPECT_EQ(second.index, first.index + first.count);
    EXPECT_EQ(g_heap_stats->mapped_free_bytes + first.bytes() + second.bytes(),
              2 * Config::kSegment);
  });
}

TEST(PageHeap, AlignedRunsAreAlignedAndTheSurplusComesBack) {
  with_new_page_heap([] {
    (void)take(3);
    for (size_t alignment = 1; alignment <= 1024; alignment *= 2) {
      const size_t free_before = g_heap_stats->mapped_free_bytes;
      const uint64_t segments = g_heap_stats->segments;
      const PageRun run = take(3, alignment);
      ASSERT_NE(run.index, PageHeap::kNoRun);
      EXPECT_EQ(run.index % alignment, 0U);
      if (g_heap_stats->segments == segments) {
        EXPECT_EQ(free_before - g_heap_stats->mapped_free_bytes, run.bytes());
      }
      g_page_heap.validate();
    }
    EXPECT_EQ(testing::walk_window().free, g_heap_stats->mapped_free_bytes);
  });
}

TEST(PageHeap, AlignedRunOutOfADirtyRunLeavesDirtySurplus) {
  with_new_page_heap([] {
    const PageRun run = take(100);
    std::memset(run.memory(), 'x', run.bytes());
    give(run);
    const PageRun aligned = take(8, 16);
    EXPECT_FALSE(aligned.zeroed);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, run.bytes() - aligned.bytes());
    EXPECT_EQ(testing::walk_window().dirty, g_heap_stats->free_dirty_bytes);
  });
}

TEST(PageHeap, ExtendTakesWhatFollowsAndNoMore) {
  with_new_page_heap([] {
    const PageRun run = take(10);
    ASSERT_TRUE(g_page_heap.extend(run.index, 10, 15));
    EXPECT_EQ(take(1).index, run.index + 15);
    EXPECT_FALSE(g_page_heap.extend(run.index, 15, 16));
  });
}

TEST(PageHeap, ExtendTakesPartOfADirtyRunAndThenTheRest) {
  with_new_page_heap([] {
    const auto runs = separate_runs({20});
    const PageRun rest{runs[0].index + 10, 10, false};
    give(rest);
    EXPECT_FALSE(g_page_heap.extend(runs[0].index, 10, 21));  // too short by one
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 10 * Config::kChunk);
    bool fresh = false;
    ASSERT_TRUE(g_page_heap.extend(runs[0].index, 10, 14, &fresh));
    EXPECT_FALSE(fresh);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 6 * Config::kChunk);
    g_page_heap.validate();
    ASSERT_TRUE(g_page_heap.extend(runs[0].index, 14, 20));
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 0U);
  });
}

TEST(PageHeap, ExtendGoesOverADirtyAndACleanRun) {
  with_new_page_heap([] {
    const PageRun run = take(10);
    const PageRun dirty = take(5);
    ASSERT_EQ(dirty.index, run.index + 10);
    give(dirty);
    const uint64_t free_bytes = g_heap_stats->mapped_free_bytes;
    bool fresh = false;
    ASSERT_TRUE(g_page_heap.extend(run.index, 10, 30, &fresh));
    EXPECT_TRUE(fresh);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 0U);
    EXPECT_EQ(free_bytes - g_heap_stats->mapped_free_bytes, 20 * Config::kChunk);
    EXPECT_EQ(testing::walk_window().free, g_heap_stats->mapped_free_bytes);
    EXPECT_EQ(take(1).index, run.index + 30);
  });
}

TEST(PageHeap, ExtendAtTheTopOfTheHeapIsRefused) {
  with_new_page_heap([] {
    const PageRun run = take(kSegmentChunks);
    EXPECT_FALSE(g_page_heap.extend(run.index, kSegmentChunks, kSegmentChunks + 1));
  });
}

TEST(PageHeap, AForeignMappingAtTheTopIsSteppedOver) {
  if (kWindowIsShared)
    GTEST_SKIP() << kShared;
  with_new_page_heap([] {
    const PageRun run = take(kSegmentChunks);
    char* top = run.memory() + run.bytes();
    ASSERT_TRUE(vm::map_at(top, vm::kOsPage));
    top[0] = 'x';
    const PageRun next = take(2 * kSegmentChunks);
    ASSERT_NE(next.index, PageHeap::kNoRun);
    std::memset(next.memory(), 'y', next.bytes());
    EXPECT_EQ(top[0], 'x');
    EXPECT_TRUE(next.memory() > top || next.memory() + next.bytes() <= run.memory());
    give(run);
    give(next);
  });
}

TEST(PageHeap, RefusedGrowthIsAValueAndLaterGrowthWorks) {
  with_new_page_heap([] {
    const PageRun first = take(1);
    ASSERT_NE(first.index, PageHeap::kNoRun);
    testing::limit_address_space(0);
    EXPECT_EQ(take(4 * kSegmentChunks).index, PageHeap::kNoRun);
    g_page_heap.validate();
    const PageRun second = take(2);  // what is there can still be had
    EXPECT_NE(second.index, PageHeap::kNoRun);
    const uint64_t free_bytes = g_heap_stats->mapped_free_bytes;
    testing::lift_address_space_limit();
    const PageRun third = take(4 * kSegmentChunks);
    EXPECT_NE(third.index, PageHeap::kNoRun);
    EXPECT_GE(g_heap_stats->mapped_free_bytes + third.bytes(), free_bytes);
  });
}

TEST(PageHeap, WhenMemoryIsShortNoMoreThanNeededIsMapped) {
  if (kWindowIsShared)
    GTEST_SKIP() << kShared;
  with_new_page_heap([] {
    const PageRun first = take(kSegmentChunks);
    ASSERT_NE(first.index, PageHeap::kNoRun);
    testing::limit_address_space(Config::kSegment / 2);
    const PageRun second = take(10);
    EXPECT_NE(second.index, PageHeap::kNoRun);
    EXPECT_EQ(g_heap_stats->mapped_free_bytes, 0U);
    testing::lift_address_space_limit();
  });
}

TEST(PageHeap, UnderAnAddressSpaceLimitTheWindowIsSmall) {
  if (testing::kAddressSanitizer || testing::kThreadSanitizer) {
    GTEST_SKIP() << "the sanitizer's shadow is above the limit";
  }
  with_new_page_heap([] {
    testing::limit_address_space(size_t{1} << 30);
    EXPECT_NE(take(10).index, PageHeap::kNoRun);
    EXPECT_EQ(g_page_map.bytes(), Config::kSmallWindow);
    EXPECT_NE(take(10 * kSegmentChunks).index, PageHeap::kNoRun);
  });
}

TEST(PageHeap, ThePageMapIsTriedAgainAfterItsTablesCouldNotBeMapped) {
  with_new_page_heap([] {
    testing::limit_address_space(0);
    EXPECT_EQ(take(1).index, PageHeap::kNoRun);
    g_page_heap.validate();
    testing::lift_address_space_limit();
    EXPECT_NE(take(1).index, PageHeap::kNoRun);
  });
}

}  // namespace
}  // namespace slabscope
