// SPDX-License-Identifier: MIT
//
// Large blocks that are page runs, and what both kinds have in common.

#include "slab/cache/large.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "slab/base/bits.h"
#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

constexpr size_t kKib = 1 << 10;
constexpr size_t kMib = 1 << 20;

// Differences since the start of the test, which must be none at its end.
class LargeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    g_caches.need(Config::kLargeId);
    mapped_ = stat_get(g_heap_stats->mapped_large_bytes);
    live_ = stat_get(g_caches.stats(Config::kLargeId).live_bytes);
  }
  void TearDown() override {
    expect_live(0);
    g_page_heap.validate();
  }
  void expect_live(size_t bytes) const {
    EXPECT_EQ(stat_get(g_heap_stats->mapped_large_bytes) - mapped_, bytes);
    EXPECT_EQ(stat_get(g_caches.stats(Config::kLargeId).live_bytes) - live_, bytes);
  }
  static char* take(size_t bytes, size_t alignment = 16) {
    return static_cast<char*>(large_allocate(bytes, alignment).address);
  }
  static void give(void* block) { EXPECT_TRUE(large_release(block).found); }

 private:
  uint64_t mapped_ = 0;
  uint64_t live_ = 0;
};

TEST_F(LargeTest, ARunIsWholeChunksAndCountedAsSuch) {
  char* block = take(33 * kKib);
  ASSERT_NE(block, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % Config::kChunk, 0U);
  EXPECT_EQ(large_size(block), 48 * kKib);
  expect_live(48 * kKib);
  std::memset(block, 'x', 48 * kKib);
  EXPECT_EQ(g_page_map.id_at(g_page_map.index_of(block)), Config::kLargeId);
  EXPECT_EQ(g_page_map.id_at(g_page_map.index_of(block) + 1), 0U);
  give(block);
  EXPECT_EQ(g_page_map.id_at(g_page_map.index_of(block)), 0U);
}

TEST_F(LargeTest, WhatWasReleasedIsNoBlockAnyMore) {
  for (const size_t bytes : {100 * kKib, 40 * kMib}) {
    char* block = take(bytes);
    ASSERT_NE(block, nullptr);
    give(block);
    EXPECT_EQ(large_size(block), 0U);
    EXPECT_FALSE(large_release(block).found);
    EXPECT_EQ(large_resize(block, bytes + kMib), nullptr);
  }
}

TEST_F(LargeTest, OnlyItsStartIsABlock) {
  for (const size_t bytes : {100 * kKib, 40 * kMib}) {
    char* block = take(bytes);
    ASSERT_NE(block, nullptr);
    for (const size_t offset : {size_t{1}, size_t{16}, size_t{4096}, Config::kChunk}) {
      EXPECT_EQ(large_size(block + offset), 0U);
      EXPECT_FALSE(large_release(block + offset).found);
      EXPECT_EQ(large_resize(block + offset, bytes), nullptr);
    }
    give(block);
  }
}

TEST_F(LargeTest, AlignmentHoldsUpToAGibibyte) {
  for (size_t alignment = 16; alignment <= size_t{1} << 30; alignment *= 2) {
    for (const size_t bytes : {33 * kKib, 3 * kMib, 33 * kMib}) {
      char* block = take(bytes, alignment);
      ASSERT_NE(block, nullptr) << bytes << " at " << alignment;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % alignment, 0U);
      EXPECT_GE(large_size(block), bytes);
      expect_live(large_size(block));
      block[0] = block[bytes - 1] = 'x';
      give(block);
    }
  }
}

TEST_F(LargeTest, ImpossibleRequestsAreRefusedAndNotCounted) {
  EXPECT_EQ(take(Config::kMaxRequest), nullptr);
  EXPECT_EQ(take(SIZE_MAX - 100), nullptr);
  EXPECT_EQ(take(33 * kMib, size_t{1} << 62), nullptr);
  EXPECT_EQ(take(33 * kKib, size_t{1} << 63), nullptr);
  expect_live(0);
}

TEST_F(LargeTest, ARunShrinksInPlaceToTheChunk) {
  char* block = take(200 * kKib);
  std::memset(block, 'x', 200 * kKib);
  EXPECT_EQ(large_resize(block, 100 * kKib), block);
  EXPECT_EQ(large_size(block), 112 * kKib);
  expect_live(112 * kKib);
  EXPECT_EQ(large_resize(block, 110 * kKib), block);
  expect_live(112 * kKib);
  EXPECT_EQ(block[112 * kKib - 1], 'x');
  EXPECT_EQ(large_resize(block, 30 * kKib), nullptr);  // becomes a small object by copying
  expect_live(112 * kKib);
  give(block);
}

TEST_F(LargeTest, ARunGrowsInPlaceIntoWhatIsFreeBehindIt) {
  char* block = take(400 * kKib);
  std::memset(block, 'x', 400 * kKib);
  ASSERT_EQ(large_resize(block, 64 * kKib), block);
  ASSERT_EQ(large_resize(block, 390 * kKib), block);
  expect_live(400 * kKib);
  EXPECT_EQ(block[64 * kKib - 1], 'x');
  ASSERT_EQ(large_resize(block, 64 * kKib), block);
  char* behind = take(336 * kKib);
  if (behind == block + 64 * kKib) {
    EXPECT_EQ(large_resize(block, 80 * kKib), nullptr);
  }
  give(behind);
  give(block);
}

TEST_F(LargeTest, ARunDoesNotGrowIntoAMappingsSize) {
  char* block = take(100 * kKib);
  EXPECT_EQ(large_resize(block, Config::kHugeMin), nullptr);
  expect_live(112 * kKib);
  give(block);
}

TEST_F(LargeTest, RecordsStayWithTheirBlock) {
  for (const size_t bytes : {100 * kKib, 40 * kMib}) {
    char* block = take(bytes);
    EXPECT_EQ(large_record(block), 0U);
    large_set_record(block, 77);
    EXPECT_EQ(large_record(block), 77U);
    auto* resized = static_cast<char*>(large_resize(block, bytes - 33 * kKib));
    ASSERT_NE(resized, nullptr);
    EXPECT_EQ(large_record(resized), 77U);
    const LargeReleased released = large_release(resized);
    EXPECT_TRUE(released.found);
    EXPECT_EQ(released.record, 77U);
    char* next = take(bytes);
    EXPECT_EQ(large_record(next), 0U);
    give(next);
  }
}

TEST_F(LargeTest, ARunOfDirtyMemoryDoesNotClaimToBeZero) {
  testing::with_new_page_heap([] {
    char* block = take(100 * kKib);
    std::memset(block, 'x', 100 * kKib);
    give(block);
    const LargeBlock again = large_allocate(100 * kKib, 16);
    EXPECT_EQ(again.address, block);
    EXPECT_FALSE(again.zeroed);
    give(again.address);
    g_page_heap.purge(UINT32_MAX / 2 - 1, 0);
    const LargeBlock clean = large_allocate(100 * kKib, 16);
    EXPECT_TRUE(clean.zeroed);
    for (size_t i = 0; i < 100 * kKib; ++i)
      ASSERT_EQ(static_cast<char*>(clean.address)[i], 0);
    give(clean.address);
  });
}

// Or an array that grows again and again has twice its size resident.
TEST_F(LargeTest, GrowingIntoFreshMemoryGivesOldDirtyRunsBack) {
  testing::with_new_page_heap([] {
    constexpr size_t kOld = 6 * Config::kDirtyFloor;
    char* old = take(kOld);
    char* block = take(64 * kKib);  // behind it the window is fresh
    ASSERT_GT(block, old);
    give(old);
    ASSERT_EQ(stat_get(g_heap_stats->free_dirty_bytes), kOld);
    ASSERT_EQ(large_resize(block, 80 * kKib), block);
    EXPECT_LE(stat_get(g_heap_stats->free_dirty_bytes), Config::kDirtyFloor);
    give(block);
  });
}

TEST_F(LargeTest, ThreadsResizeAndReleaseEachTheirOwn) {
  std::atomic<int> errors{0};
  testing::in_threads(3, [&errors](unsigned thread) {
    testing::Random random(thread);
    const char mark = static_cast<char>('a' + thread);
    std::vector<char*> blocks;
    for (int step = 0; step < 1500; ++step) {
      const size_t bytes = random.one_in(20) ? Config::kHugeMin + random.below(8 * kMib)
                                             : 33 * kKib + random.below(500 * kKib);
      if (blocks.size() < 6) {
        char* block = take(bytes);
        if (block == nullptr) {
          ++errors;
          continue;
        }
        block[0] = block[large_size(block) - 1] = mark;
        blocks.push_back(block);
        continue;
      }
      const size_t victim = random.below(blocks.size());
      char*& block = blocks[victim];
      if (block[0] != mark || block[large_size(block) - 1] != mark)
        ++errors;
      void* moved = random.one_in(2) ? large_resize(block, bytes) : nullptr;
      if (moved != nullptr) {
        block = static_cast<char*>(moved);
        if (block[0] != mark)
          ++errors;
        block[large_size(block) - 1] = mark;
      } else {
        if (!large_release(block).found)
          ++errors;
        block = blocks.back();
        blocks.pop_back();
      }
    }
    for (char* block : blocks)
      give(block);
  });
  EXPECT_EQ(errors.load(), 0);
}

}  // namespace
}  // namespace slabscope
