// SPDX-License-Identifier: MIT
//
// ThreadCache: lists, counters, refills and flushes. Tracking: thread_cache_sampling_test.cc.

#include "slab/cache/thread_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

using testing::in_fresh_slot;
using testing::list_length;
using testing::my_bin;
using testing::my_counters;

constexpr unsigned kId = 3;  // objects of 48 bytes
constexpr size_t kSize = 48;

uint64_t objects_out(unsigned id) {
  return stat_get(g_caches.stats(id).objects_out);
}

std::vector<void*> take(size_t count, size_t size = kSize) {
  std::vector<void*> objects;
  for (size_t i = 0; i < count; ++i)
    objects.push_back(allocate(size));
  return objects;
}
void give(const std::vector<void*>& objects) {
  for (void* object : objects)
    deallocate(object);
}

TEST(ThreadCache, RefillsStartSmallAndGrowWhileTheListRunsDry) {
  in_fresh_slot([] {
    std::vector<size_t> after_refills;
    std::vector<void*> objects;
    for (int i = 0; i < 3000; ++i) {
      const bool empty = my_bin(kId)->head == nullptr;
      objects.push_back(allocate(kSize));
      if (empty)
        after_refills.push_back(list_length(my_bin(kId)));
    }
    ASSERT_GE(after_refills.size(), 4U);
    EXPECT_LE(after_refills[0], 8U);
    EXPECT_GE(*std::max_element(after_refills.begin(), after_refills.end()), 20U);
    for (const size_t length : after_refills)
      EXPECT_LT(length, Config::kBinMaxObjects);
    give(objects);
  });
}

// Frees `objects` in a fresh slot, taking one of them back after each `back`-th (0: none): how long
// the list was after each overflow.
std::vector<size_t> lengths_after_overflow(const std::vector<void*>& objects, size_t back) {
  std::vector<size_t> lengths;
  std::vector<void*> taken;
  in_fresh_slot([&] {
    size_t before = 0;
    for (size_t i = 0; i < objects.size(); ++i) {
      deallocate(objects[i]);
      const size_t length = list_length(my_bin(kId));
      if (length != before + 1) {
        lengths.push_back(length);
        EXPECT_LE(length, before);
      }
      if (back != 0 && i % back == back - 1)
        taken.push_back(allocate(kSize));
      before = list_length(my_bin(kId));
    }
    give(taken);
  });
  return lengths;
}

TEST(ThreadCache, AListThatOverflowsReturnsAPartInBatches) {
  in_fresh_slot([] {
    const std::vector<void*> objects = take(3000);
    const std::vector<size_t> lengths = lengths_after_overflow(objects, 5);
    EXPECT_GT(lengths.size(), 3U);
    EXPECT_LT(lengths.size(), objects.size() / 8);
    // The first lists are so short that they overflow before anything is taken.
    const auto half = static_cast<std::ptrdiff_t>(lengths.size() / 2);
    EXPECT_GT(*std::min_element(lengths.begin() + half, lengths.end()), 0U);
  });
}

TEST(ThreadCache, AThreadThatOnlyFreesKeepsNothingBack) {
  in_fresh_slot([] {
    const std::vector<void*> objects = take(3000);
    const std::vector<size_t> lengths = lengths_after_overflow(objects, 0);
    EXPECT_GT(lengths.size(), 3U);
    EXPECT_LT(lengths.size(), objects.size() / 8);
    EXPECT_EQ(*std::max_element(lengths.begin(), lengths.end()), 0U);
  });
}

TEST(ThreadCache, ThreadsTakeWhatTheySeldomNeedFromOneSlab) {
  in_fresh_slot([] {
    constexpr size_t kLarge = 1024;
    void* mine = allocate(kLarge);
    void* other = nullptr;
    in_fresh_slot([&other] { other = allocate(kLarge); });
    EXPECT_EQ(g_page_map.find(mine)->slab, g_page_map.find(other)->slab);
    deallocate(mine);
    deallocate(other);
  });
}

// What a list may hold at most: its cap and the slack between two visits.
constexpr size_t kMostObjects = Config::kBinLongest;
constexpr size_t kMostBytes = Config::kBinMaxBytes + Config::kBinEmptySlackBytes;

TEST(ThreadCache, NoListHoldsMoreThanItsShareOfBytes) {
  in_fresh_slot([] {
    for (unsigned id = 1; id < Config::kOwnId; id += 5) {
      const size_t size = SizeClass::size_of(id);
      const std::vector<void*> objects = take(300, size);
      for (void* object : objects) {
        deallocate(object);
        const size_t length = list_length(my_bin(id));
        ASSERT_LE(length, kMostObjects);
        ASSERT_TRUE(length * size <= kMostBytes || length <= 2 * Config::kBinMinObjects) << size;
      }
    }
  });
}

TEST(ThreadCache, FreedObjectsComeBackLastInFirstOut) {
  in_fresh_slot([] {
    const std::vector<void*> objects = take(5);
    give(objects);
    for (size_t i = objects.size(); i-- > 0;)
      EXPECT_EQ(allocate(kSize), objects[i]);
    give(objects);
  });
}

TEST(ThreadCache, AFreeIsFastUntilTheTripOnly) {
  in_fresh_slot([] {
    const std::vector<void*> objects = take(1000);
    Bin* bin = my_bin(kId);
    size_t fast = 0;
    while (fast < objects.size() && push_fast(objects[fast]))
      ++fast;
    EXPECT_EQ(my_counters(kId).frees, bin->trip);
    EXPECT_EQ(my_counters(kId).frees, fast);
    EXPECT_LT(fast, objects.size());
    for (size_t i = fast; i < objects.size(); ++i)
      deallocate(objects[i]);
    EXPECT_EQ(my_counters(kId).frees, objects.size());
  });
}

// The invariants that can be seen from outside, after any operation of the thread.
void expect_list_within_bounds(unsigned id) {
  Bin* bin = my_bin(id);
  const size_t length = list_length(bin);
  const CounterPair pair = my_counters(id);
  ASSERT_LE(length, kMostObjects);
  if (bin->trip > pair.frees) {
    ASSERT_LE(length + (bin->trip - pair.frees), kMostObjects);
  }
}

TEST(ThreadCache, CountersAreExactAfterAnyOperations) {
  in_fresh_slot([] {
    const uint64_t seed = testing::test_seed(51);
    SCOPED_TRACE("SLABSCOPE_TEST_SEED=" + std::to_string(seed));
    testing::Random random(seed);
    std::array<CounterPair, Config::kLargeId + 1> model{};
    std::array<uint64_t, Config::kLargeId + 1> elsewhere{};
    for (unsigned id = 1; id <= Config::kLargeId; ++id) {
      elsewhere[id] = g_threads.total(id).allocs - g_threads.total(id).frees;
    }
    std::vector<std::pair<void*, unsigned>> live;
    for (int step = 0; step < 60000; ++step) {
      // Waves: lists overflow and run dry.
      const bool growing = step / 700 % 2 == 0;
      if (live.empty() || random.below(10) < (growing ? 7U : 3U)) {
        const size_t size = random.one_in(50) ? random.below(100000) : random.below(300);
        const unsigned id =
            size > Config::kSmallMax ? unsigned{Config::kLargeId} : SizeClass::id_of(size);
        live.emplace_back(allocate(size), id);
        ++model[id].allocs;
      } else {
        const size_t victim = random.one_in(2) ? live.size() - 1 : random.below(live.size());
        const auto [object, id] = live[victim];
        live[victim] = live.back();
        live.pop_back();
        deallocate(object);
        ++model[id].frees;
        expect_list_within_bounds(id);
      }
    }
    for (unsigned id = 1; id <= Config::kLargeId; ++id) {
      EXPECT_EQ(my_counters(id).allocs, model[id].allocs) << id;
      EXPECT_EQ(my_counters(id).frees, model[id].frees) << id;
      const CounterPair total = g_threads.total(id);
      EXPECT_EQ(total.allocs - total.frees - elsewhere[id], model[id].allocs - model[id].frees);
    }
    for (const auto& [object, id] : live)
      deallocate(object);
  });
}

TEST(ThreadCache, FlushAllLeavesOnlyWhatIsLiveOutOfTheSlabs) {
  in_fresh_slot([] {
    g_caches.need(kId);
    const uint64_t before = objects_out(kId);
    const std::vector<void*> kept = take(70);
    give(take(500));
    EXPECT_GT(objects_out(kId) - before, kept.size());
    ThreadCache::current()->flush_all();
    EXPECT_EQ(objects_out(kId) - before, kept.size());
    EXPECT_EQ(my_bin(kId)->head, nullptr);
    give(kept);
    ThreadCache::current()->flush_all();
    EXPECT_EQ(objects_out(kId), before);
    testing::validate_heap();
  });
}

TEST(ThreadCache, ListsNobodyUsesAreFlushedAtATick) {
  EXPECT_EQ(testing::in_child([] {
              // A process of its own, because the decay time is the process's. This thread has no
              // slot yet, or has one.
              set_decay_ms(0);
              ThreadCache* cache = g_threads.current_or_start();
              give(take(20));
              if (my_bin(kId)->head == nullptr)
                return 1;
              const auto tick = [] {  // slow paths that leave the lists alone
                for (unsigned i = 0; i < Config::kVisitsPerTick; ++i)
                  deallocate(allocate(100000));
              };
              tick();  // sees that the list was used
              if (my_bin(kId)->head == nullptr)
                return 2;
              tick();
              if (my_bin(kId)->head != nullptr)
                return 3;
              cache->flush_all();
              testing::validate_heap();
              return 0;
            }),
            0);
}

// Objects at the end of a list that is in use would keep the slabs they lie in.
TEST(ThreadCache, ListsInUseAreFlushedTooNowAndThen) {
  EXPECT_EQ(testing::in_child([] {
              set_decay_ms(40);
              (void)g_threads.current_or_start();
              give(take(20));
              const void* last = my_bin(kId)->head;
              while (last != nullptr && static_cast<const FreeObject*>(last)->next != nullptr)
                last = static_cast<const FreeObject*>(last)->next;
              if (last == nullptr)
                return 1;
              // Until the last object of the list is no longer on it, at most 10 s.
              const auto is_listed = [last] {
                for (const FreeObject* o = my_bin(kId)->head; o != nullptr; o = o->next) {
                  if (o == last)
                    return true;
                }
                return false;
              };
              const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
              while (is_listed() && std::chrono::steady_clock::now() < end) {
                deallocate(allocate(kSize));  // the first one alone
                deallocate(allocate(100000));
              }
              return is_listed() ? 2 : 0;
            }),
            0);
}

TEST(ThreadCache, TheHeartbeatComesEverySoManyVisits) {
  testing::HooksGuard guard;
  static int ticks;
  g_hooks.tick = [](uint32_t) { ++ticks; };
  in_fresh_slot([] {
    ticks = 0;
    const uint64_t visits = stat_get(g_heap_stats->door_visits);
    for (unsigned i = 0; i < 10 * Config::kVisitsPerTick; ++i)
      deallocate(allocate(100000));
    EXPECT_EQ(ticks, 10);
    EXPECT_EQ(stat_get(g_heap_stats->door_visits) - visits, 10 * Config::kVisitsPerTick);
  });
}

TEST(ThreadCache, ASlowAllocationIsCountedWhereTheListWasEmpty) {
  in_fresh_slot([] {
    g_caches.need(kId);
    const uint64_t before = stat_get(g_caches.stats(kId).slow_allocations);
    uint64_t empty = 0;
    std::vector<void*> objects;
    for (int i = 0; i < 500; ++i) {
      if (my_bin(kId)->head == nullptr)
        ++empty;
      objects.push_back(allocate(kSize));
    }
    EXPECT_EQ(stat_get(g_caches.stats(kId).slow_allocations) - before, empty);
    give(objects);
  });
}

TEST(ThreadCache, ObjectsFreedByOthersAreUsedAgain) {
  in_fresh_slot([] {
    std::vector<void*> objects = take(2000);
    const uint64_t slabs = stat_get(g_caches.stats(kId).slabs);
    for (int round = 0; round < 20; ++round) {
      testing::in_thread([&objects] { give(objects); });
      objects = take(2000);
      ASSERT_LE(stat_get(g_caches.stats(kId).slabs), slabs + 2);
    }
    give(objects);
  });
}

TEST(ThreadCache, WithoutMemoryAllocationFailsAndLaterWorks) {
  if (testing::kThreadSanitizer)
    GTEST_SKIP() << "the sanitizer itself runs out of memory";
  EXPECT_EQ(testing::in_child([] {
              deallocate(allocate(32 << 10));  // the page heap has its first segment
              std::vector<void*> objects(1 << 16);
              testing::limit_address_space(0);
              size_t count = 0;
              while (count < objects.size()) {
                void* object = allocate(32 << 10);
                if (object == nullptr)
                  break;
                objects[count++] = object;
              }
              if (count == objects.size())
                return 1;
              if (allocate(32 << 10) != nullptr)
                return 2;
              for (size_t i = 0; i < count; ++i)
                deallocate(objects[i]);
              void* object = allocate(32 << 10);
              if (object == nullptr)
                return 3;
              deallocate(object);
              testing::validate_heap();
              return stat_get(g_heap_stats->failures_no_memory) >= 2 ? 0 : 4;
            }),
            0);
}

TEST(ThreadCacheDeathTest, APointerIntoAnObjectPanicsWhenTheListIsFlushed) {
  EXPECT_DEATH(
      {
        auto* object = static_cast<char*>(allocate(kSize));
        deallocate(object + 16);
        ThreadCache::current()->flush_all();
      },
      "slabscope: invalid free of 0x[0-9a-f]+ \\(no object starts there\\)");
}

}  // namespace
}  // namespace slabscope
