// SPDX-License-Identifier: MIT
//
// Large blocks that are mappings of their own, and the cache of freed ones. Each test has a child,
// in which no mapping is cached and time is what the test says.

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "slab/cache/large.h"
#include "slab/pages/vm.h"
#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

using testing::with_new_page_heap;

constexpr size_t kMib = 1 << 20;

char* take(size_t bytes, size_t alignment = 16) {
  return static_cast<char*>(large_allocate(bytes, alignment).address);
}

// A time later than all that this process's clock has said.
uint32_t start_time() {
  return decay_tick() + 1000;
}

TEST(LargeHuge, AMappingIsOutsideTheWindowAndRoundedToOsPages) {
  with_new_page_heap([] {
    const LargeBlock block = large_allocate(Config::kHugeMin + 5, 16);
    ASSERT_NE(block.address, nullptr);
    EXPECT_TRUE(block.zeroed);
    EXPECT_EQ(large_size(block.address), Config::kHugeMin + vm::kOsPage);
    EXPECT_EQ(g_heap_stats->huge_mapped, 1U);
    EXPECT_EQ(g_heap_stats->mapped_large_bytes, Config::kHugeMin + vm::kOsPage);
    EXPECT_TRUE(large_release(block.address).found);
    EXPECT_EQ(g_heap_stats->mapped_large_bytes, 0U);
    EXPECT_EQ(g_heap_stats->mapped_free_bytes, Config::kHugeMin + vm::kOsPage);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, Config::kHugeMin + vm::kOsPage);
  });
}

TEST(LargeHuge, TheKernelMovesPagesWhenAMappingGrows) {
  with_new_page_heap([] {
    char* block = take(40 * kMib);
    for (size_t i = 0; i < 40 * kMib; i += kMib)
      block[i] = static_cast<char>(i / kMib);
    auto* grown = static_cast<char*>(large_resize(block, 100 * kMib));
    ASSERT_NE(grown, nullptr);
    for (size_t i = 0; i < 40 * kMib; i += kMib)
      ASSERT_EQ(grown[i], static_cast<char>(i / kMib));
    EXPECT_EQ(grown[100 * kMib - 1], 0);
    EXPECT_EQ(large_size(grown), 100 * kMib);
    EXPECT_EQ(g_heap_stats->mapped_large_bytes, 100 * kMib);
    if (grown != block) {
      EXPECT_EQ(large_size(block), 0U);
    }
    EXPECT_EQ(large_resize(grown, 33 * kMib), grown);
    EXPECT_EQ(g_heap_stats->mapped_large_bytes, 33 * kMib);
    EXPECT_EQ(large_resize(grown, kMib), nullptr);  // becomes a run by copying
    EXPECT_EQ(large_size(grown), 33 * kMib);
    EXPECT_TRUE(large_release(grown).found);
  });
}

TEST(LargeHuge, AMappingThatCannotGrowStaysAsItWas) {
  with_new_page_heap([] {
    char* block = take(40 * kMib);
    block[0] = 'x';
    testing::limit_address_space(kMib);
    EXPECT_EQ(large_resize(block, 100 * kMib), nullptr);
    testing::lift_address_space_limit();
    EXPECT_EQ(large_size(block), 40 * kMib);
    EXPECT_EQ(block[0], 'x');
    EXPECT_EQ(g_heap_stats->mapped_large_bytes, 40 * kMib);
    EXPECT_TRUE(large_release(block).found);
  });
}

TEST(LargeHuge, WithoutMemoryNothingIsCounted) {
  with_new_page_heap([] {
    testing::limit_address_space(kMib);
    EXPECT_EQ(take(40 * kMib), nullptr);
    EXPECT_EQ(take(40 * kMib, 64 * kMib), nullptr);
    testing::lift_address_space_limit();
    EXPECT_EQ(g_heap_stats->mapped_large_bytes, 0U);
    EXPECT_EQ(g_heap_stats->huge_mapped, 0U);
  });
}

TEST(LargeHuge, AFreedMappingIsUsedAgainWithoutTheKernel) {
  with_new_page_heap([] {
    char* block = take(40 * kMib);
    block[5] = 'x';
    EXPECT_TRUE(large_release(block).found);
    const LargeBlock again = large_allocate(36 * kMib, 16);
    EXPECT_EQ(again.address, block);
    EXPECT_FALSE(again.zeroed);
    EXPECT_EQ(large_size(block), 40 * kMib);
    EXPECT_EQ(g_heap_stats->huge_mapped, 1U);
    EXPECT_EQ(g_heap_stats->mapped_free_bytes, 0U);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 0U);
    EXPECT_TRUE(large_release(block).found);
    EXPECT_NE(take(41 * kMib), block);             // too small
    EXPECT_NE(take(Config::kHugeMin - 1), block);  // a run
    EXPECT_NE(take(40 * kMib, 64 * kMib), block);  // aligned ones are made to measure
    EXPECT_EQ(take(Config::kHugeMin), block);      // a quarter more is the most
  });
}

TEST(LargeHuge, TheCachedMappingThatFitsBestIsTaken) {
  with_new_page_heap([] {
    char* small = take(40 * kMib);
    char* middle = take(44 * kMib);
    char* large = take(48 * kMib);
    for (char* block : {large, small, middle})
      EXPECT_TRUE(large_release(block).found);
    EXPECT_EQ(take(41 * kMib), middle);
    EXPECT_EQ(take(41 * kMib), large);
    EXPECT_EQ(take(33 * kMib), small);
  });
}

TEST(LargeHuge, CachedMappingsGoBackWhenTheyAreOldEnough) {
  with_new_page_heap([] {
    const uint32_t start = start_time();
    char* first = take(40 * kMib);
    char* second = take(50 * kMib);
    large_decay(start, 500);
    EXPECT_TRUE(large_release(first).found);
    large_decay(start + 300, 500);
    EXPECT_TRUE(large_release(second).found);
    EXPECT_EQ(large_decay(start + 499, 500), 0U);
    EXPECT_EQ(large_decay(start + 500, 500), 40 * kMib);
    EXPECT_EQ(g_heap_stats->mapped_free_bytes, 50 * kMib);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 50 * kMib);
    EXPECT_EQ(g_heap_stats->released_bytes, 40 * kMib);
    EXPECT_EQ(large_decay(start + 400, 500), 0U);  // a slower thread's clock
    EXPECT_EQ(large_decay(start + 800, 500), 50 * kMib);
    EXPECT_EQ(g_heap_stats->mapped_free_bytes, 0U);
  });
}

TEST(LargeHuge, TheCacheIsBoundedInBytes) {
  with_new_page_heap([] {
    // Untouched pages: address space only.
    constexpr size_t kBlock = 33 * kMib;
    std::vector<char*> blocks;
    for (unsigned i = 0; i < Config::kHugeCacheEntries + 4; ++i)
      blocks.push_back(take(kBlock));
    for (char* block : blocks)
      EXPECT_TRUE(large_release(block).found);
    EXPECT_LE(g_heap_stats->mapped_free_bytes, Config::kHugeCacheBytes);
    EXPECT_EQ(g_heap_stats->mapped_free_bytes, Config::kHugeCacheBytes / kBlock * kBlock);
    EXPECT_EQ(g_heap_stats->released_bytes + g_heap_stats->mapped_free_bytes,
              blocks.size() * kBlock);
    EXPECT_EQ(large_decay(start_time(), 0), Config::kHugeCacheBytes / kBlock * kBlock);
  });
}

TEST(LargeHuge, ManyMappingsAtOnceAreAllFoundAgain) {
  with_new_page_heap([] {
    std::vector<char*> blocks;
    for (int i = 0; i < 300; ++i) {
      blocks.push_back(take(Config::kHugeMin));
      ASSERT_NE(blocks.back(), nullptr);
    }
    EXPECT_EQ(g_heap_stats->mapped_large_bytes, 300 * Config::kHugeMin);
    for (char* block : blocks)
      ASSERT_EQ(large_size(block), Config::kHugeMin);
    for (char* block : blocks)
      ASSERT_TRUE(large_release(block).found);
    EXPECT_EQ(g_heap_stats->mapped_large_bytes, 0U);
  });
}

}  // namespace
}  // namespace slabscope
