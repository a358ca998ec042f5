// SPDX-License-Identifier: MIT

#include "slab/cache/thread_registry.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <latch>
#include <set>
#include <thread>
#include <vector>

#include "slab/base/clock.h"
#include "slab/pages/meta.h"
#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

using testing::in_thread;

uint64_t live_of(unsigned id) {
  const CounterPair total = g_threads.total(id);
  return total.allocs - total.frees;
}
uint64_t out_of(unsigned id) {
  return g_caches.ready(id) ? stat_get(g_caches.stats(id).objects_out) : 0;
}

TEST(ThreadRegistry, AThreadHasNoCacheUntilItAllocatesAndNoneAfterItsEnd) {
  std::thread([] {
    EXPECT_EQ(ThreadCache::current(), nullptr);
    void* object = allocate(10);
    EXPECT_NE(ThreadCache::current(), nullptr);
    EXPECT_EQ(g_threads.current_or_start(), ThreadCache::current());
    deallocate(object);
    g_threads.end();
    EXPECT_EQ(ThreadCache::current(), nullptr);
    EXPECT_EQ(g_threads.current_or_start(), nullptr);
    g_threads.end();  // twice is once
  }).join();
}

// What ended threads left waiting goes back, as if the decay time had passed.
void flush_ended_threads() {
  g_threads.flush_ended(static_cast<uint32_t>(monotonic_ns() / 1'000'000) + 1000, 0);
}

TEST(ThreadRegistry, ThreadsEndReturnsAllButWhatIsLive) {
  flush_ended_threads();
  std::array<uint64_t, Config::kLargeId> cached{};
  for (unsigned id = 1; id < Config::kLargeId; ++id)
    cached[id] = out_of(id) - live_of(id);
  std::vector<void*> kept;
  in_thread([&kept] {
    testing::Random random(testing::test_seed(71));
    for (int i = 0; i < 20000; ++i) {
      void* object = allocate(random.below(Config::kSmallMax + 1) >> random.below(12));
      if (random.one_in(50)) {
        kept.push_back(object);
      } else {
        deallocate(object);
      }
    }
  });
  flush_ended_threads();
  for (unsigned id = 1; id < Config::kLargeId; ++id) {
    EXPECT_EQ(out_of(id) - live_of(id), cached[id]) << id;
  }
  in_thread([&kept] {
    for (void* object : kept)
      deallocate(object);
  });
  flush_ended_threads();
  for (unsigned id = 1; id < Config::kLargeId; ++id) {
    EXPECT_EQ(out_of(id) - live_of(id), cached[id]) << id;
  }
  testing::validate_heap();
}

TEST(ThreadRegistry, AnEndedThreadsSlotIsTheNextOnes) {
  const char* first = nullptr;
  in_thread([&first] {
    deallocate(allocate(10));
    first = t_bins;
  });
  const unsigned slots = g_threads.slot_count();
  const uint64_t reclaimed = stat_get(g_heap_stats->thread_caches_reclaimed);
  for (int i = 0; i < 20; ++i) {
    in_thread([first] {
      deallocate(allocate(10));
      EXPECT_EQ(t_bins, first);
    });
  }
  EXPECT_EQ(g_threads.slot_count(), slots);
  // Each took over what the one before left; the last one's cache waits.
  EXPECT_EQ(stat_get(g_heap_stats->thread_caches_reclaimed), reclaimed);
  flush_ended_threads();
  EXPECT_GE(stat_get(g_heap_stats->thread_caches_reclaimed) - reclaimed, 1U);
}

TEST(ThreadRegistry, CountsOutliveTheirThread) {
  constexpr unsigned kId = 5;
  const CounterPair before = g_threads.total(kId);
  for (int i = 0; i < 10; ++i) {
    in_thread([] {
      for (int round = 0; round < 100; ++round)
        deallocate(allocate(5 * 16));
    });
  }
  EXPECT_EQ(g_threads.total(kId).allocs - before.allocs, 1000U);
  EXPECT_EQ(g_threads.total(kId).frees - before.frees, 1000U);
}

TEST(ThreadRegistry, AThreadThatHasEndedIsServedByTheOrphansSlot) {
  constexpr unsigned kId = 7;
  testing::HooksGuard guard;
  static std::atomic<int> tracked;
  tracked = 0;
  std::thread([] {
    const CounterPair before = g_threads.total(kId);
    deallocate(allocate(7 * 16));
    g_threads.end();
    g_hooks.sample_distance = [](uint64_t*, size_t, uint32_t) { return uint64_t{0}; };
    g_hooks.track = [](const void*, size_t, size_t, unsigned, uint32_t, uint32_t) {
      ++tracked;
      return uint32_t{0};
    };
    std::vector<void*> objects;
    for (int i = 0; i < 1000; ++i)
      objects.push_back(allocate(7 * 16));
    void* large = allocate(1 << 20);
    EXPECT_EQ(ThreadCache::current(), nullptr);
    EXPECT_EQ(std::set<void*>(objects.begin(), objects.end()).size(), objects.size());
    EXPECT_EQ(g_threads.total(kId).allocs - before.allocs, 1001U);
    for (void* object : objects)
      deallocate(object);
    deallocate(large);
    EXPECT_EQ(g_threads.total(kId).frees - before.frees, 1001U);
  }).join();
  EXPECT_EQ(tracked.load(), 0);  // nobody's stack would tell anything
  testing::validate_heap();
}

TEST(ThreadRegistry, OrphansInManyThreadsDoNotMixUp) {
  std::vector<std::thread> threads;
  std::atomic<int> errors{0};
  for (unsigned i = 0; i < 4; ++i) {
    threads.emplace_back([i, &errors] {
      deallocate(allocate(10));
      g_threads.end();
      testing::HeapModel model(i);
      testing::OpStream stream(i, 50, 50000);
      for (int step = 0; step < 1000; ++step) {
        if (!model.apply(stream.next(model.live())))
          ++errors;
      }
      if (!model.check_all())
        ++errors;
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(errors.load(), 0);
  testing::validate_heap();
}

TEST(ThreadRegistry, MoreThreadsThanABlockHoldHaveASlotEach) {
  for (const unsigned count : {40U, 100U}) {
    std::latch ready(count);
    std::latch counted(1);
    std::vector<char*> bins(count);
    const uint64_t live = live_of(4);
    testing::in_threads(count, [&](unsigned thread) {
      void* object = allocate(64);
      bins[thread] = t_bins;
      static_cast<char*>(object)[63] = static_cast<char>(thread);
      ready.arrive_and_wait();
      if (thread == 0) {
        EXPECT_EQ(live_of(4) - live, count);
        counted.count_down();
      }
      counted.wait();
      EXPECT_EQ(static_cast<char*>(object)[63], static_cast<char>(thread));
      deallocate(object);
    });
    EXPECT_EQ(std::set<char*>(bins.begin(), bins.end()).size(), count);
    EXPECT_GE(g_threads.blocks() * Config::kSlotsPerBlock, count);
    EXPECT_GE(g_threads.slot_count(), count);
    EXPECT_EQ(live_of(4), live);
  }
  testing::validate_heap();
}

TEST(ThreadRegistry, ThreadsThatComeAndGoLeaveNothingBehind) {
  const auto churn = [](unsigned threads) {
    std::vector<void*> inherited;
    for (unsigned i = 0; i < threads; ++i) {
      in_thread([&inherited, i] {
        testing::Random random(i);
        for (void* object : inherited)
          deallocate(object);
        inherited.clear();
        for (int step = 0; step < 40; ++step) {
          void* object = allocate(random.below(2000));
          if (random.one_in(4)) {
            inherited.push_back(object);
          } else {
            deallocate(object);
          }
        }
      });
    }
    in_thread([&inherited] {
      for (void* object : inherited)
        deallocate(object);
    });
  };
  churn(testing::kThreadSanitizer ? 50 : 200);
  const uint64_t slab_bytes = stat_get(g_heap_stats->mapped_slab_bytes);
  const size_t meta_bytes = meta_mapped_bytes();
  const unsigned slots = g_threads.slot_count();
  churn(testing::kThreadSanitizer ? 200 : 2000);
  EXPECT_LE(stat_get(g_heap_stats->mapped_slab_bytes), slab_bytes + (1 << 20));
  EXPECT_LE(meta_mapped_bytes(), meta_bytes + (256 << 10));
  EXPECT_EQ(g_threads.slot_count(), slots);
  testing::validate_heap();
}

TEST(ThreadRegistry, AThreadWhoseSlotIsRefusedCountsInPrivate) {
  testing::HooksGuard guard;
  (void)g_threads.lock_orphans();  // the orphans' slot itself is open
  g_threads.unlock_orphans();
  const uint64_t dropped = stat_get(g_heap_stats->dropped_threads);
  g_hooks.slot_opened = [](unsigned, void*) { return false; };
  in_thread([] {
    void* object = allocate(100);
    ASSERT_NE(object, nullptr);
    EXPECT_NE(ThreadCache::current(), nullptr);
    const unsigned id = SizeClass::id_of(100);
    const CounterPair before = g_threads.total(id);
    deallocate(object);
    EXPECT_EQ(g_threads.total(id).frees - before.frees, 1U);
  });
  EXPECT_EQ(stat_get(g_heap_stats->dropped_threads) - dropped, 1U);
}

TEST(ThreadRegistry, HooksSeeEachThreadStartAndEndOnce) {
  testing::HooksGuard guard;
  static std::atomic<int> opened;
  static std::atomic<int> started;
  static std::atomic<int> closed;
  opened = started = closed = 0;
  g_hooks.slot_opened = [](unsigned number, void* counters) {
    if (number > 0 && counters != nullptr)
      ++opened;
    return true;
  };
  g_hooks.thread_started = [] {
    ++started;
    deallocate(allocate(100));  // it may
  };
  g_hooks.slot_closed = [](void*) { ++closed; };
  for (int i = 0; i < 5; ++i)
    in_thread([] { deallocate(allocate(10)); });
  EXPECT_EQ(opened.load(), 5);
  EXPECT_EQ(started.load(), 5);
  EXPECT_EQ(closed.load(), 5);
}

TEST(ThreadRegistry, CountersOfABlockLieWhereItsSlotsCountersDo) {
  in_thread([] {
    deallocate(allocate(10));
    auto* counters = reinterpret_cast<char*>(counters_of(testing::my_bin(0)));
    bool found = false;
    for (unsigned block = 0; block < g_threads.blocks(); ++block) {
      auto* first = static_cast<char*>(g_threads.counters_of_block(block));
      if (counters < first || counters >= first + Config::kBlockBytes)
        continue;
      found = true;
      EXPECT_EQ(static_cast<size_t>(counters - first) % Config::kSlotBytes,
                size_t{Config::kCountersOffset});
    }
    EXPECT_TRUE(found);
  });
}

}  // namespace
}  // namespace slabscope
