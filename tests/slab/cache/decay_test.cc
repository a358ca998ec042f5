// SPDX-License-Identifier: MIT
//
// Decay: each test has a child, because the decay time is the process's.

#include "slab/cache/decay.h"

#include <gtest/gtest.h>

#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

using testing::with_new_page_heap;

constexpr size_t kRunBytes = 8 * Config::kChunk;

void release_a_run() {
  bool zeroed = false;
  const size_t run = g_page_heap.allocate(8, 1, &zeroed);
  ASSERT_NE(run, PageHeap::kNoRun);
  g_page_heap.release(run, 8);
}

TEST(Decay, TheTimeCanBeSet) {
  with_new_page_heap([] {
    EXPECT_EQ(decay_ms(), Config::kDecayMs);
    set_decay_ms(77);
    EXPECT_EQ(decay_ms(), 77U);
  });
}

TEST(Decay, ATickMovesTheClockAndKeepsWhatIsYoung) {
  with_new_page_heap([] {
    set_decay_ms(3600 * 1000);
    const uint32_t first = decay_tick();
    release_a_run();
    uint32_t now = first;
    while (now == first)
      now = decay_tick();
    EXPECT_GT(static_cast<int32_t>(now - first), 0);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, kRunBytes);
  });
}

TEST(Decay, WithATimeOfZeroNothingIsKept) {
  with_new_page_heap([] {
    set_decay_ms(0);
    decay_tick();
    release_a_run();
    decay_tick();
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 0U);
    EXPECT_EQ(g_heap_stats->released_bytes, kRunBytes);
  });
}

TEST(Decay, ALongTimeIsNotTakenForNone) {
  with_new_page_heap([] {
    set_decay_ms(UINT32_MAX);
    decay_tick();
    release_a_run();
    decay_tick();
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, kRunBytes);
  });
}

TEST(Decay, EverythingMeansMappingsAndRunsHoweverYoung) {
  with_new_page_heap([] {
    release_a_run();
    const LargeBlock huge = large_allocate(Config::kHugeMin, 16);
    EXPECT_TRUE(large_release(huge.address).found);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, kRunBytes + Config::kHugeMin);
    EXPECT_EQ(decay_everything(), kRunBytes + Config::kHugeMin);
    EXPECT_EQ(g_heap_stats->free_dirty_bytes, 0U);
    EXPECT_EQ(decay_everything(), 0U);
  });
}

TEST(Decay, EmptySlabsGoBackOnceADecayTime) {
  EXPECT_EQ(testing::in_child([] {
              set_decay_ms(0);
              g_caches.need(20);
              KmemCache* cache = g_caches.plain(20);
              cache->leave(cache->acquire());
              if (cache->stats().slabs_empty == 0)
                return 1;
              for (int round = 0; round < 8; ++round)
                decay_tick();
              return cache->stats().slabs_empty == 0 ? 0 : 2;
            }),
            0);
}

}  // namespace
}  // namespace slabscope
