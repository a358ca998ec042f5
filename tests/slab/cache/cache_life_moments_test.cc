// SPDX-License-Identifier: MIT
//
// What may happen between any two steps of a cache's end: a reader inside, one that comes later,
// the same name again, forks, delayed releases.

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "tests/slab/cache/life_fixture.h"

namespace slabscope {
namespace {

using testing::args_with;
using testing::AtPoint;
using testing::FakeRcu;
using testing::in_thread;
using testing::is_gone;
using testing::listed_names;
using testing::make_cache;
using testing::shown;
using testing::Signal;
using testing::SlabThread;
using testing::stats_of;

class CacheLifeMoments : public testing::LifeTest {};

// An object that an allocation has in its hands is destructed by the cache's end, or it is handed
// out: never both, whatever the cache checks.
TEST_F(CacheLifeMoments, AnObjectInFlightIsDestructedOnce) {
  static std::atomic<int> constructed;
  static std::atomic<int> destructed;
  for (const unsigned flags : {0U, SLAB_RED_ZONE}) {
    constructed = destructed = 0;
    slab_cache_args args{};
    args.flags = flags;
    args.ctor = [](void*) { ++constructed; };
    args.dtor = [](void*) { ++destructed; };
    slab_cache* cache = make_cache("inflight", 64, args);
    SlabThread allocator([&] {
      void* object = slab_cache_alloc(cache);
      slab_cache_free(cache, object);  // constructed, and on this thread's list
      const AtPoint at(TestPoint::kPlaceTaken,
                       [&] { in_thread([&] { EXPECT_EQ(slab_cache_destroy_detach(cache), 1); }); });
      EXPECT_EQ(slab_cache_alloc(cache), nullptr);
      EXPECT_EQ(errno, ENODEV);
      EXPECT_TRUE(AtPoint::seen());
    });
    allocator.join();
    EXPECT_EQ(constructed, 1);
    EXPECT_EQ(destructed, 1);
    EXPECT_TRUE(is_gone(cache));
  }
}

// 0495e337b703: removal waits for a show, and holds nothing that a show or anybody else may want.
TEST_F(CacheLifeMoments, AShowThatIsInsideIsWaitedForWithoutALock) {
  slab_cache* cache = make_cache("shown", 64);
  static Signal inside;
  static Signal go_on;
  static Signal unlinked;
  for (Signal* signal : {&inside, &go_on, &unlinked})
    signal->clear();
  std::atomic<bool> destroyed{false};
  static unsigned shown_id;
  shown_id = reinterpret_cast<ObjectCache*>(cache)->id();
  g_test_point.store([](TestPoint point, unsigned id) {
    if (id != shown_id)
      return;
    if (point == TestPoint::kShowing && !inside.is_set()) {
      inside.set();
      go_on.wait();
    } else if (point == TestPoint::kDestroyUnlinked && !unlinked.is_set()) {
      unlinked.set();
    } else if (point == TestPoint::kDestroyQuiet) {
      EXPECT_TRUE(go_on.is_set()) << "the cache was taken apart under a show";
    }
  });
  std::string text;
  SlabThread reader([&] { text = shown(cache, "slab_size"); });
  inside.wait();
  SlabThread destroyer([&] {
    EXPECT_EQ(slab_cache_destroy(cache), 0);
    destroyed = true;
  });
  unlinked.wait();
  EXPECT_FALSE(destroyed);
  // The name is free, new shows are refused, everything else goes on.
  EXPECT_EQ(shown(cache, "slab_size"), "-ENODEV");
  EXPECT_EQ(slab_cache_store(cache, "shrink", "1"), -ENODEV);
  slab_cache* next = make_cache("shown", 64);
  EXPECT_EQ(shown(next, "slab_size"), "64\n");
  EXPECT_EQ(listed_names(), std::vector<std::string>{"shown"});
  EXPECT_EQ(slab_cache_destroy(next), 0);
  EXPECT_FALSE(destroyed);
  go_on.set();
  reader.join();
  destroyer.join();
  EXPECT_EQ(text, "64\n") << "who was inside gets all of it";
}

TEST_F(CacheLifeMoments, WhatWasOpenedBeforeSaysNoDeviceAfter) {
  make_cache("opened", 64);
  slab_cache* opened = slab_cache_find("opened");
  EXPECT_EQ(shown(opened, "objects"), "0\n");
  EXPECT_EQ(slab_cache_destroy(opened), 0);
  EXPECT_EQ(shown(opened, "objects"), "-ENODEV");
  EXPECT_EQ(slab_cache_alloc(opened), nullptr);
  EXPECT_EQ(errno, ENODEV);
  EXPECT_EQ(slab_cache_destroy(opened), -EINVAL);
  slab_cache_put(opened);
  EXPECT_TRUE(is_gone(opened));
}

TEST_F(CacheLifeMoments, AZombieShowsNothingToNewReaders) {
  slab_cache* cache = make_cache("zombie", 64);
  void* object = slab_cache_alloc(cache);
  EXPECT_EQ(slab_cache_destroy_detach(cache), 1);
  EXPECT_EQ(shown(cache, "objects"), "-ENODEV");
  EXPECT_EQ(slab_cache_find("zombie"), nullptr);
  slab_cache_free(cache, object);
}

TEST_F(CacheLifeMoments, AnAliasOfADyingZombieIsFreedThrough) {
  slab_cache* first = make_cache("first", 64, args_with(SLAB_MERGE));
  slab_cache* last = make_cache("last", 64, args_with(SLAB_MERGE));
  void* one = slab_cache_alloc(first);
  void* two = slab_cache_alloc(last);
  EXPECT_EQ(slab_cache_destroy_detach(first), 0);
  EXPECT_EQ(slab_cache_destroy_detach(last), 1);
  EXPECT_EQ(stats_of(last).active_objects, 2U);
  slab_cache_free(last, one);
  deallocate(two);
  EXPECT_TRUE(is_gone(last));
}

// A shrink that somebody stores while the cache is destroyed; ThreadSanitizer looks at the locks.
TEST_F(CacheLifeMoments, StoresRaceWithDestroy) {
  std::atomic<bool> done{false};
  const auto read = [&] {
    while (!done) {
      slab_cache* cache = slab_cache_find("stored");
      if (cache == nullptr)
        continue;
      for (const char* store : {"shrink", "validate"}) {
        const int result = slab_cache_store(cache, store, "1");
        EXPECT_TRUE(result == 0 || result == -ENODEV) << result;
      }
      for (const char* show : {"objects_partial", "cpu_slabs", "total_objects"})
        EXPECT_NE(shown(cache, show), "");
      slab_cache_put(cache);
    }
  };
  {
    SlabThread one(read);
    SlabThread two(read);
    for (int round = 0; round < (testing::kThreadSanitizer ? 30 : 200); ++round) {
      const auto nothing = [](void*) {};
      slab_cache* cache = make_cache("stored", 64, args_with(0, nullptr, nothing));
      std::array<void*, 300> objects{};
      EXPECT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
      slab_cache_free_bulk(cache, objects.size(), objects.data());
      EXPECT_EQ(slab_cache_destroy(cache), 0);
    }
    done = true;
  }
}

// What CONFIG_DEBUG_KOBJECT_RELEASE does: the record stays, nothing may have counted on its end.
TEST_F(CacheLifeMoments, ADelayedReleaseKeepsTheRecordAndNothingElse) {
  g_object_caches.set_release_delay(1'000'000'000);
  slab_cache* cache = make_cache("late", 64);
  slab_cache* alias = make_cache("late-alias", 64, args_with(SLAB_MERGE));
  slab_cache_free(cache, slab_cache_alloc(cache));
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(slab_cache_destroy(alias), 0);
  EXPECT_EQ(g_object_caches.leaving(), 3U);
  EXPECT_EQ(stats_of(cache).slabs, 0U) << "memory does not wait";
  for (int i = 0; i < 5; ++i) {
    slab_cache* next = make_cache("late", 64);
    EXPECT_NE(next, cache);
    slab_cache_free(next, slab_cache_alloc(next));
    EXPECT_EQ(slab_cache_destroy(next), 0);
  }
  EXPECT_EQ(g_object_caches.leaving(), 8U);
  g_object_caches.set_release_delay(0);
  slab_cache* next = make_cache("late", 64);  // brings what is due to its end
  EXPECT_EQ(g_object_caches.leaving(), 0U);
  EXPECT_EQ(slab_cache_destroy(next), 0);
}

// ---- fork -----------------------------------------------------------------------------------

// In a child of a fork at `point` of the destruction of `cache`: 0 if all is as it should be.
// Nothing here but slab/: ThreadSanitizer's allocator does not survive a fork in threads.
int child_finds(slab_cache* cache, bool decided) {
  heap_reset_after_fork();
  if (g_object_caches.held() != 0)
    return 1;
  if (decided) {
    g_object_caches.settle();
    if (g_object_caches.leaving() != 0)
      return 2;
    const slab_cache_args args{};
    cache = slab_cache_create("forked", 64, &args);  // perhaps with the same record
    if (cache == nullptr)
      return 3;
  }
  void* object = slab_cache_alloc(cache);
  if (object == nullptr)
    return 4;
  if (slab_cache_destroy(cache) != -EBUSY)
    return 5;
  slab_cache_free(cache, object);
  return slab_cache_destroy(cache) == 0 ? 0 : 6;
}

int fork_and_look(slab_cache* cache, bool decided) {
  heap_lock_for_fork();
  const pid_t pid = fork();
  if (pid == 0)
    _exit(child_finds(cache, decided));
  heap_unlock_after_fork();
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST_F(CacheLifeMoments, AForkAtAnyStepLeavesAWholeCacheOrNone) {
  struct Step {
    TestPoint point;
    bool decided;
  };
  for (const Step& step : {Step{TestPoint::kDestroyDying, false},
                           {TestPoint::kDestroyJudged, false},
                           {TestPoint::kDestroyUnlinked, true},
                           {TestPoint::kDestroyQuiet, true},
                           {TestPoint::kDestroyRetired, true}}) {
    for (const unsigned flags : {0U, SLAB_TYPESAFE_BY_RCU}) {
      slab_cache* cache =
          make_cache("forked", 64, args_with(flags, nullptr, nullptr, FakeRcu::flavor()));
      slab_cache_free(cache, slab_cache_alloc(cache));
      int result = -1;
      {
        const AtPoint at(step.point, [&] {
          // Another thread forks: the destroyer does not exist in the child.
          in_thread([&] {
            g_test_point.store(nullptr);
            result = fork_and_look(cache, step.decided);
          });
        });
        EXPECT_EQ(slab_cache_destroy(cache), 0);
      }
      EXPECT_EQ(result, 0) << "step " << static_cast<int>(step.point) << ", flags " << flags;
    }
  }
}

TEST_F(CacheLifeMoments, AForkWhileAnAliasGoesCountsThoseThatAreLeft) {
  slab_cache* stays = make_cache("forked", 64, args_with(SLAB_MERGE));
  slab_cache* goes = make_cache("goes", 64, args_with(SLAB_MERGE));
  int result = -1;
  const AtPoint at(TestPoint::kDestroyDying, [&] {
    in_thread([&] {
      g_test_point.store(nullptr);
      heap_lock_for_fork();
      const pid_t pid = fork();
      if (pid == 0) {
        heap_reset_after_fork();
        void* object = slab_cache_alloc(stays);
        int wrong = slab_cache_destroy(goes) == 0 ? 0 : 1;  // alive again, and not the last one
        wrong += slab_cache_destroy(stays) == -EBUSY ? 0 : 2;
        slab_cache_free(stays, object);
        wrong += slab_cache_destroy(stays) == 0 ? 0 : 4;
        _exit(wrong + (g_object_caches.leaving() == 0 ? 0 : 8));
      }
      heap_unlock_after_fork();
      int status = 0;
      waitpid(pid, &status, 0);
      result = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    });
  });
  EXPECT_EQ(slab_cache_destroy(goes), 0);
  EXPECT_EQ(result, 0);
  EXPECT_EQ(slab_cache_destroy(stays), 0);
}

}  // namespace
}  // namespace slabscope
