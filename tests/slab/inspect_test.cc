// SPDX-License-Identifier: MIT

#include "slab/inspect.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <vector>

#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

std::map<unsigned, CacheView> views() {
  std::map<unsigned, CacheView> result;
  for_each_cache(
      [](const CacheView& view, void* context) {
        (*static_cast<std::map<unsigned, CacheView>*>(context))[view.id] = view;
      },
      &result);
  return result;
}

TEST(Inspect, ViewsTellWhatIsLiveInEachCache) {
  testing::in_thread([] {
    deallocate(allocate(160));
    deallocate(allocate(50000));
    const auto before = views();
    std::vector<void*> blocks;
    for (int i = 0; i < 50; ++i)
      blocks.push_back(allocate(160));
    blocks.push_back(allocate(50000));
    for (int i = 0; i < 7; ++i)
      deallocate(allocate(160));
    const auto after = views();
    const CacheView& small = after.at(10);
    EXPECT_EQ(small.object_size, 160U);
    EXPECT_EQ(small.active_objects - before.at(10).active_objects, 50U);
    EXPECT_EQ(small.active_bytes - before.at(10).active_bytes, 50U * 160);
    EXPECT_EQ(small.allocations - before.at(10).allocations, 57U);
    EXPECT_GT(small.slabs, 0U);
    const CacheView& large = after.at(Config::kLargeId);
    EXPECT_EQ(large.object_size, 0U);
    EXPECT_EQ(large.active_objects - before.at(Config::kLargeId).active_objects, 1U);
    EXPECT_EQ(large.active_bytes - before.at(Config::kLargeId).active_bytes, 65536U);
    for (void* block : blocks)
      deallocate(block);
  });
}

TEST(Inspect, TotalsAreTheSumOfTheViews) {
  testing::in_thread([] {
    std::vector<void*> blocks;
    for (size_t size = 1; size < 200000; size += 777)
      blocks.push_back(allocate(size));
    const HeapTotals totals = heap_totals();
    size_t bytes = 0;
    for (const auto& [id, view] : views())
      bytes += view.active_bytes;
    EXPECT_EQ(totals.active_bytes, bytes);
    EXPECT_EQ(totals.large_blocks, views().at(Config::kLargeId).active_objects);
    for (void* block : blocks)
      deallocate(block);
  });
}

// ---- the accounting identity ----------------------------------------------------------------

void expect_identities() {
  const HeapTotals totals = heap_totals();
  size_t slab_bytes = 0;
  for (const auto& [id, view] : views()) {
    if (view.object_size == 0)
      continue;
    slab_bytes += view.slabs * g_caches.plain(id)->slab_bytes();
  }
  EXPECT_EQ(totals.slab_bytes, slab_bytes);
  // No mapping of its own is live or cached here: all is in the window.
  const testing::WindowTotals window = testing::walk_window();
  EXPECT_EQ(totals.slab_bytes, window.slabs);
  EXPECT_EQ(totals.large_bytes, window.large);
  EXPECT_EQ(totals.free_bytes, window.free);
  EXPECT_EQ(stat_get(g_heap_stats->free_dirty_bytes), window.dirty);
  EXPECT_EQ(stat_get(g_caches.stats(Config::kLargeId).live_bytes), totals.large_bytes);
}

TEST(Inspect, SlabLargeAndFreeBytesAreAllThatIsMappedAtQuietMoments) {
  testing::in_thread([] {
    deallocate(allocate(50000));
    decay_everything();
    testing::HeapModel model(testing::test_seed(91));
    testing::OpStream stream(testing::test_seed(91), 500, 1 << 20);
    for (int round = 0; round < 10; ++round) {
      for (int step = 0; step < 1000; ++step) {
        ASSERT_TRUE(model.apply(stream.next(model.live()))) << model.error();
      }
      expect_identities();
      if (round == 5)
        trim();
    }
    model.free_all();
    expect_identities();
    trim();
    expect_identities();
    testing::validate_heap();
  });
  expect_identities();
}

// Bytes that /proc/self/maps shows between two addresses.
size_t mapped_between(uintptr_t low, uintptr_t high) {
  FILE* maps = std::fopen("/proc/self/maps", "r");
  if (maps == nullptr)
    return 0;
  char line[512];
  size_t sum = 0;
  while (std::fgets(line, sizeof(line), maps) != nullptr) {
    size_t from = 0;
    size_t to = 0;
    if (std::sscanf(line, "%zx-%zx", &from, &to) == 2 && from >= low && to <= high)
      sum += to - from;
  }
  std::fclose(maps);
  return sum;
}

TEST(Inspect, TheKernelSeesTheSameBytesInTheWindow) {
  testing::in_thread([] {
    void* block = allocate(50000);
    long here = 0;
    if (g_page_map.index_of(&here) < g_page_map.chunk_limit()) {
      deallocate(block);
      GTEST_SKIP() << "the window is where the kernel puts other mappings too";
    }
    const HeapTotals totals = heap_totals();
    EXPECT_EQ(totals.slab_bytes + totals.large_bytes + totals.free_bytes,
              mapped_between(g_page_map.base(), g_page_map.base() + g_page_map.bytes()));
    deallocate(block);
  });
}

TEST(Inspect, AMappingOfItsOwnIsInTheLargeAndFreeBytesOnly) {
  testing::in_thread([] {
    const HeapTotals before = heap_totals();
    void* block = allocate(Config::kHugeMin);
    EXPECT_EQ(heap_totals().large_bytes - before.large_bytes, Config::kHugeMin);
    EXPECT_EQ(heap_totals().active_bytes - before.active_bytes, Config::kHugeMin);
    deallocate(block);
    EXPECT_EQ(heap_totals().large_bytes, before.large_bytes);
    decay_everything();
    EXPECT_EQ(heap_totals().free_bytes, before.free_bytes);
  });
}

}  // namespace
}  // namespace slabscope
