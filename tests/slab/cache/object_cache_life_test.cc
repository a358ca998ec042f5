// SPDX-License-Identifier: MIT
//
// The life of object caches: refused and detached destruction, other threads' lists, races. The
// steps between threads are forced by hooks and by waiting for each other, never by time.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "tests/slab/cache/life_fixture.h"

namespace slabscope {
namespace {

using testing::is_gone;
using testing::make_cache;
using testing::pass_the_slow_path;
using testing::stats_of;

class ObjectCacheLife : public ::testing::Test {
 protected:
  ObjectCacheLife() { EXPECT_EQ(g_object_caches.leaving(), 0U); }
  ~ObjectCacheLife() override { EXPECT_EQ(g_object_caches.leaving(), 0U); }

  testing::HooksGuard hooks_;
};

TEST_F(ObjectCacheLife, ARefusedDestroyChangesNothing) {
  static std::vector<RefusedDestroy> refused;
  refused.clear();
  g_hooks.destroy_refused = [](const RefusedDestroy& what) { refused.push_back(what); };
  slab_cache* cache = make_cache("refused", 80);
  void* kept = slab_cache_alloc(cache);
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].objects, 1U);
  EXPECT_EQ(refused[0].object_size, 80U);
  // Its name is still taken, it is still found, it still serves.
  EXPECT_EQ(slab_cache_create("refused", 80, nullptr), nullptr);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(slab_cache_of(kept), cache);
  EXPECT_STREQ(slab_cache_name(cache), "refused");
  void* more = slab_cache_alloc(cache);
  EXPECT_NE(more, nullptr);
  EXPECT_EQ(stats_of(cache).active_objects, 2U);
  EXPECT_EQ(stats_of(cache).allocations_total, 2U);
  slab_cache_free(cache, more);
  slab_cache_free(cache, kept);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_TRUE(is_gone(cache));
  EXPECT_EQ(slab_cache_destroy(cache), -EINVAL);
  EXPECT_EQ(refused.size(), 1U);
}

// The decision is being made: everything that another thread could try in between.
TEST_F(ObjectCacheLife, WhileItIsDecidedNothingIsHandedOut) {
  static slab_cache* cache = nullptr;
  static int alloc_errno, destroy_result, create_errno;
  static void* kept = nullptr;
  cache = make_cache("deciding", 64);
  kept = slab_cache_alloc(cache);
  static void* freed_meanwhile = nullptr;
  freed_meanwhile = slab_cache_alloc(cache);
  g_hooks.destroy_refused = [](const RefusedDestroy&) {
    testing::in_thread([] {
      alloc_errno = slab_cache_alloc(cache) == nullptr ? errno : 0;
      destroy_result = slab_cache_destroy(cache);
      create_errno = slab_cache_create("deciding", 64, nullptr) == nullptr ? errno : 0;
      EXPECT_EQ(slab_cache_shrink(cache), -EINVAL);
      slab_cache_free(cache, freed_meanwhile);
    });
  };
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  EXPECT_EQ(alloc_errno, ENODEV);
  EXPECT_EQ(destroy_result, -EALREADY);
  EXPECT_EQ(create_errno, EEXIST);
  EXPECT_EQ(stats_of(cache).allocations_refused, 1U);
  EXPECT_EQ(stats_of(cache).active_objects, 1U);
  void* again = slab_cache_alloc(cache);
  EXPECT_NE(again, nullptr);
  slab_cache_free(cache, again);
  slab_cache_free(cache, kept);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(ObjectCacheLife, AZombieLosesItsNameAtOnceAndEndsWithItsLastObject) {
  slab_cache* cache = make_cache("zombie", 64);
  std::array<void*, 200> objects{};
  ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  EXPECT_EQ(slab_cache_destroy_detach(cache), 1);
  EXPECT_EQ(g_object_caches.leaving(), 1U);
  EXPECT_EQ(slab_cache_alloc(cache), nullptr);
  EXPECT_EQ(errno, ENODEV);
  EXPECT_EQ(slab_cache_of(objects[7]), cache);
  slab_cache* next = make_cache("zombie", 64);
  EXPECT_NE(next, cache);
  for (size_t i = 0; i < objects.size(); ++i) {
    EXPECT_EQ(stats_of(cache).active_objects, objects.size() - i);
    if (i % 2 == 0) {
      slab_cache_free(cache, objects[i]);
    } else {
      deallocate(objects[i]);
    }
  }
  EXPECT_TRUE(is_gone(cache));
  EXPECT_EQ(slab_cache_destroy(next), 0);
}

TEST_F(ObjectCacheLife, DetachingAnEmptyCacheDestroysIt) {
  slab_cache* cache = make_cache("empty", 64);
  slab_cache_free(cache, slab_cache_alloc(cache));
  EXPECT_EQ(slab_cache_destroy_detach(cache), 0);
  EXPECT_TRUE(is_gone(cache));
  EXPECT_EQ(slab_cache_destroy(nullptr), 0);
}

// Free objects on another thread's list are not in use, and are not taken from it either.
TEST_F(ObjectCacheLife, OtherThreadsListsAreWaitedForByNobody) {
  slab_cache* cache = make_cache("listed", 64);
  std::barrier step(2);
  testing::SlabThread other([&] {
    std::array<void*, 50> objects{};
    ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
    slab_cache_free_bulk(cache, objects.size(), objects.data());
    step.arrive_and_wait();  // idle, with a list
    step.arrive_and_wait();
    EXPECT_FALSE(is_gone(cache)) << "memory on a thread's list was taken away";
    pass_the_slow_path();
    EXPECT_TRUE(is_gone(cache));
  });
  step.arrive_and_wait();
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(g_object_caches.leaving(), 1U);     // destroyed, but its memory is not free yet
  slab_cache* next = make_cache("listed", 64);  // the name is
  step.arrive_and_wait();
  other.join();
  EXPECT_EQ(slab_cache_destroy(next), 0);
}

TEST_F(ObjectCacheLife, ListsOfThreadsThatEndedAreDrained) {
  slab_cache* cache = make_cache("ended", 64);
  for (int i = 0; i < 3; ++i) {
    testing::in_thread([&] {
      std::array<void*, 50> objects{};
      ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
      slab_cache_free_bulk(cache, objects.size(), objects.data());
    });
  }
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_TRUE(is_gone(cache));
}

TEST_F(ObjectCacheLife, AThreadThatEndsLetsGoOfWhatWasDestroyed) {
  slab_cache* cache = make_cache("ending", 64);
  std::barrier step(2);
  testing::SlabThread other([&] {
    slab_cache_free(cache, slab_cache_alloc(cache));
    step.arrive_and_wait();
    step.arrive_and_wait();  // ends without another allocation
  });
  step.arrive_and_wait();
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(g_object_caches.leaving(), 1U);
  step.arrive_and_wait();
  other.join();
  EXPECT_TRUE(is_gone(cache));
}

TEST_F(ObjectCacheLife, ObjectsFreedByAnotherThreadAreCounted) {
  slab_cache* cache = make_cache("remote", 64);
  std::array<void*, 500> objects{};
  ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  testing::in_thread([&] { slab_cache_free_bulk(cache, 499, objects.data()); });
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  EXPECT_EQ(stats_of(cache).active_objects, 1U);
  testing::in_thread([&] { slab_cache_free(cache, objects[499]); });
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_TRUE(is_gone(cache));
}

// A program's mistake, and no danger: who allocates gets ENODEV, what was handed out stays whole.
TEST_F(ObjectCacheLife, AllocatingWhileTheCacheIsDestroyedIsAnErrorAndNoMore) {
  for (int round = 0; round < 50; ++round) {
    slab_cache* cache = make_cache("raced", 64);
    std::barrier start(3);
    const auto work = [&] {
      std::array<uint64_t*, 8> mine{};
      start.arrive_and_wait();
      for (unsigned i = 0;; ++i) {
        uint64_t*& slot = mine[i % mine.size()];
        if (slot != nullptr) {
          EXPECT_EQ(*slot, reinterpret_cast<uintptr_t>(&slot));
          slab_cache_free(cache, slot);
        }
        slot = static_cast<uint64_t*>(slab_cache_alloc(cache));
        if (slot == nullptr)
          break;
        *slot = reinterpret_cast<uintptr_t>(&slot);
      }
      EXPECT_EQ(errno, ENODEV);
      for (uint64_t* object : mine) {
        if (object != nullptr)
          slab_cache_free(cache, object);
      }
    };
    {
      testing::SlabThread one(work);
      testing::SlabThread two(work);
      start.arrive_and_wait();
      EXPECT_GE(slab_cache_destroy_detach(cache), 0);
    }
    pass_the_slow_path();
    EXPECT_EQ(g_object_caches.leaving(), 0U);
  }
}

TEST_F(ObjectCacheLife, TenThousandLivesLeaveNothing) {
  std::atomic<bool> done{false};
  testing::SlabThread reader([&] {
    while (!done.load()) {
      slab_cache_for_each(
          [](slab_cache* cache, void*) {
            slab_cache_stats stats{};
            EXPECT_EQ(slab_cache_get_stats(cache, &stats), 0);
            EXPECT_STREQ(slab_cache_name(cache), "short-lived");
            return 0;
          },
          nullptr);
    }
  });
  const int lives = testing::kThreadSanitizer ? 300 : 10000;
  unsigned limit = 0;
  size_t mapped = 0;
  for (int i = 0; i < lives; ++i) {
    slab_cache* cache = make_cache("short-lived", 64);
    std::array<void*, 3> objects{};
    ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
    slab_cache_free_bulk(cache, objects.size(), objects.data());
    ASSERT_EQ(slab_cache_destroy(cache), 0);
    if (i == 100) {
      limit = g_caches.limit();
      mapped = stat_get(g_heap_stats->mapped_slab_bytes);
    }
  }
  done = true;
  reader.join();
  // The reader may hold the cache that goes while the next one comes: one id more, sooner or later.
  EXPECT_LE(g_caches.limit(), limit + 1);
  EXPECT_LE(stat_get(g_heap_stats->mapped_slab_bytes), mapped);
}

TEST_F(ObjectCacheLife, ManyCachesAndThreadsThatComeLater) {
  // More than fit the first page of a slot's counters.
  std::vector<slab_cache*> caches;
  for (int i = 0; i < 600; ++i)
    caches.push_back(make_cache(("many-" + std::to_string(i)).c_str(), 64));
  testing::in_thread([&] {
    for (slab_cache* cache : caches) {
      void* object = slab_cache_alloc(cache);
      EXPECT_EQ(slab_cache_of(object), cache);
      slab_cache_free(cache, object);
    }
  });
  for (slab_cache* cache : caches) {
    EXPECT_EQ(stats_of(cache).allocations_total, 1U);
    EXPECT_EQ(slab_cache_destroy(cache), 0);
  }
}

TEST_F(ObjectCacheLife, IdsRunOutAndComeBack) {
  // Of some 3900, in a process in which other tests may have made groups.
  const unsigned limit = g_caches.limit();
  const size_t ids = limit < 200 ? 3900 : Config::kMaxCaches - limit - 1;
  std::vector<slab_cache*> caches;
  for (;;) {
    slab_cache* cache =
        slab_cache_create(("id-" + std::to_string(caches.size())).c_str(), 64, nullptr);
    if (cache == nullptr)
      break;
    caches.push_back(cache);
  }
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_GT(caches.size(), ids);
  for (slab_cache* cache : caches)
    EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(slab_cache_destroy(make_cache("after", 64)), 0);
}

}  // namespace
}  // namespace slabscope
