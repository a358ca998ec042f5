// SPDX-License-Identifier: MIT
//
// Object caches in groups: whose an object is, what counts where, limits, constructors, and what
// is left when a group or a cache goes. The races are in cache_life_groups_test.cc.

#include "slab/cache/cache_child.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "tests/slab/cache/child_fixture.h"

namespace slabscope {
namespace {

using testing::allocate_in;
using testing::args_with;
using testing::child_id;
using testing::FakeRcu;
using testing::GroupScope;
using testing::id_of;
using testing::in_child;
using testing::in_thread;
using testing::in_threads;
using testing::is_gone;
using testing::make;
using testing::make_cache;
using testing::shown;
using testing::stats_of;

class CacheChildTest : public testing::ChildTest {};

TEST_F(CacheChildTest, AnObjectIsOfTheGroupItsThreadWasIn) {
  slab_cache* cache = make_cache("sessions", 96);
  slab_group* group = make("inside");
  void* before = slab_cache_alloc(cache);
  EXPECT_EQ(child_id(cache, group), 0U) << "made before it was needed";
  std::array<void*, 40> objects{};
  std::array<void*, 5> bulk{};
  {
    const GroupScope scope(group);
    for (void*& object : objects)
      object = slab_cache_alloc(cache);
    EXPECT_EQ(slab_cache_alloc_bulk(cache, bulk.size(), bulk.data()), bulk.size());
  }
  void* after = slab_cache_zalloc(cache);
  const unsigned child = child_id(cache, group);
  EXPECT_NE(child, 0U);
  for (void* object : objects) {
    EXPECT_EQ(id_of(object), child);
    EXPECT_EQ(slab_cache_of(object), cache);
  }
  for (void* object : {before, after})
    EXPECT_EQ(id_of(object), testing::inside(cache)->id());
  EXPECT_EQ(stats_of(group).active_objects, 45U);
  EXPECT_EQ(stats_of(group).active_bytes, 45U * 96);
  EXPECT_GE(stats_of(group).held_bytes, 16384U);
  EXPECT_EQ(stats_of(cache).active_objects, 47U);
  EXPECT_EQ(stats_of(cache).slabs, 2U);
  EXPECT_EQ(shown(cache, "objects"), "47 N0=47\n");
  EXPECT_EQ(shown(cache, "slabs"), "2 N0=2\n");
  EXPECT_EQ(slab_cache_store(cache, "validate", "1"), 0);
  slab_cache_free_bulk(cache, bulk.size(), bulk.data());
  for (size_t i = 0; i < objects.size();
       ++i) {  // in no group: each goes back to where it came from
    if (i % 2 == 0) {
      slab_cache_free(cache, objects[i]);
    } else {
      deallocate(objects[i]);
    }
  }
  EXPECT_EQ(stats_of(group).active_objects, 0U);
  EXPECT_EQ(stats_of(cache).active_objects, 2U);
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(child_id(cache, group), 0U);
  EXPECT_EQ(stats_of(cache).allocations_total, 47U) << "what a group counted stays in the sums";
  EXPECT_EQ(stats_of(cache).frees_total, 45U);
  slab_cache_free(cache, before);
  slab_cache_free(cache, after);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheChildTest, ListsServeBothWays) {
  slab_cache* cache = make_cache("listed", 64);
  slab_group* group = make("listing");
  {
    const GroupScope scope(group);
    for (int i = 0; i < 100; ++i)
      slab_cache_free(cache, slab_cache_alloc(cache));
    const CacheStats& stats = g_caches.stats(child_id(cache, group));
    const uint64_t slow = stat_get(stats.slow_allocations);
    for (int i = 0; i < 1000; ++i)
      slab_cache_free(cache, slab_cache_alloc(cache));
    EXPECT_EQ(stat_get(stats.slow_allocations), slow);
  }
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheChildTest, LimitsHold) {
  slab_cache* cache = make_cache("bounded", 4096);
  slab_group* group = make("limited");
  static int asked;
  asked = 0;
  EXPECT_EQ(slab_group_set_limit(group, 64 << 10,
                                 [](slab_group*, size_t wanted) {
                                   EXPECT_EQ(wanted, 4096U);
                                   ++asked;
                                   return 0;
                                 }),
            0);
  std::vector<void*> objects;
  {
    const GroupScope scope(group);
    for (;;) {
      errno = 0;
      void* object = slab_cache_alloc(cache);
      if (object == nullptr)
        break;
      objects.push_back(object);
      ASSERT_LE(objects.size(), 16U);
    }
  }
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(objects.size(), 16U);
  EXPECT_EQ(stats_of(group).allocations_refused, 1U);
  void* outside = slab_cache_alloc(cache);
  EXPECT_NE(outside, nullptr) << "the limit is the group's, not the cache's";
  slab_cache_free(cache, outside);
  for (void* object : objects)
    slab_cache_free(cache, object);
  void* again = allocate_in(group, cache);
  EXPECT_NE(again, nullptr) << "what is free makes room";
  slab_cache_free(cache, again);
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// Point 3 of what must hold: three places, four threads, two groups.
TEST_F(CacheChildTest, ThreeSitesFourThreadsTwoGroups) {
  static std::vector<RefusedDestroy> refused;
  refused.clear();
  g_hooks.destroy_refused = [](const RefusedDestroy& what) { refused.push_back(what); };
  slab_cache* cache = make_cache("shared-by-groups", 200);
  const std::array<slab_group*, 2> groups{make("even"), make("odd")};
  std::array<std::array<void*, 3>, 4> objects{};
  in_threads(4, [&](unsigned thread) {
    const GroupScope scope(groups[thread % 2]);
    objects[thread][0] = slab_cache_alloc(cache);
    objects[thread][1] = slab_cache_zalloc(cache);
    EXPECT_EQ(slab_cache_alloc_bulk(cache, 1, &objects[thread][2]), 1U);
  });
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].objects, 12U);
  for (slab_group* group : groups) {
    EXPECT_EQ(stats_of(group).active_objects, 6U);
    EXPECT_EQ(slab_group_destroy(group), -EBUSY);
  }
  for (const auto& of_thread : objects) {
    for (void* object : of_thread)
      slab_cache_free(cache, object);
  }
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_TRUE(is_gone(cache));
  for (slab_group* group : groups)
    EXPECT_EQ(slab_group_destroy(group), 0);
}

TEST_F(CacheChildTest, AnAliasHasNoChildrenOfItsOwn) {
  const slab_cache_args merge = args_with(SLAB_MERGE);
  slab_cache* alias = make_cache("alias", 64, merge);
  slab_cache* other = make_cache("other", 64, merge);
  slab_group* group = make("of-aliases");
  void* object = allocate_in(group, alias);
  slab_cache* shared = slab_cache_of(object);
  EXPECT_EQ(child_id(alias, group), 0U);
  EXPECT_EQ(child_id(shared, group), id_of(object));
  void* second = allocate_in(group, other);
  EXPECT_EQ(id_of(second), id_of(object));
  slab_cache_free(other, object);  // right, as they share
  slab_cache_free(alias, second);
  EXPECT_EQ(slab_cache_destroy(alias), 0);
  EXPECT_EQ(slab_cache_destroy(other), 0);
  EXPECT_TRUE(is_gone(shared));
  EXPECT_EQ(slab_group_destroy(group), 0);
}

std::atomic<int> g_constructed{0};
std::atomic<int> g_destructed{0};

slab_cache_args counting() {
  g_constructed = 0;
  g_destructed = 0;
  return args_with(
      0,
      [](void* object) {
        ++g_constructed;
        std::memcpy(object, "built", 6);
      },
      [](void* object) {
        ++g_destructed;
        EXPECT_STREQ(static_cast<char*>(object), "built");
      });
}

TEST_F(CacheChildTest, ConstructedObjectsKeepTheirStateAndAreDestructedWithTheirGroup) {
  slab_cache* cache = make_cache("constructed", 64, counting());
  slab_group* group = make("builders");
  std::array<void*, 30> objects{};
  for (int round = 0; round < 3; ++round) {
    const GroupScope scope(group);
    for (void*& object : objects) {
      object = slab_cache_alloc(cache);
      EXPECT_STREQ(static_cast<char*>(object), "built");
      EXPECT_EQ(slab_cache_of(object), cache);
    }
    for (void* object : objects)
      slab_cache_free(cache, object);
  }
  const int made = g_constructed;
  EXPECT_LE(made, 60);
  EXPECT_EQ(g_destructed, 0);
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(g_destructed, made) << "a destroy runs destructors";
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(g_destructed, g_constructed);
}

// A group that goes by itself does so in the middle of somebody's malloc.
TEST_F(CacheChildTest, NoDestructorRunsInAMalloc) {
  slab_cache* cache = make_cache("patient", 64, counting());
  slab_group* group = make("unattended");
  void* object = allocate_in(group, cache);
  EXPECT_EQ(slab_group_destroy_detach(group), 1);
  slab_cache_free(cache, object);
  g_groups.release_unused();
  EXPECT_EQ(g_destructed, 0);
  EXPECT_EQ(g_groups.leaving(), 1U);
  EXPECT_EQ(slab_cache_shrink(cache), 1);
  EXPECT_EQ(g_destructed, g_constructed) << "a shrink runs them";
  EXPECT_EQ(g_groups.leaving(), 0U);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheChildTest, ReadersOfTypesafeObjectsAreWaitedForWhenTheirGroupGoes) {
  slab_cache* cache =
      make_cache("read", 64, args_with(SLAB_TYPESAFE_BY_RCU, nullptr, nullptr, FakeRcu::flavor()));
  slab_group* group = make("readers");
  static void* deferred;
  static slab_cache* of;
  of = cache;
  slab_cache_free(cache, allocate_in(group, cache));
  deferred = allocate_in(group, cache);
  FakeRcu::on_barrier = [] {  // a free that the program gave to call_rcu()
    slab_cache_free(of, deferred);
    deferred = nullptr;
    FakeRcu::on_barrier = nullptr;
  };
  static uint64_t slabs;
  FakeRcu::on_wait = [] { slabs = stats_of(of).slabs; };
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(deferred, nullptr);
  EXPECT_EQ(FakeRcu::waits, 1U);
  EXPECT_EQ(slabs, 1U) << "memory went before its readers";
  EXPECT_EQ(stats_of(cache).slabs, 0U);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheChildTest, ADetachedCacheGoesWithItsLastObjectInWhateverGroup) {
  for (const slab_cache_args& args : {args_with(0), counting(), args_with(SLAB_STORE_USER)}) {
    slab_cache* cache = make_cache("detached", 64, args);
    const std::array<slab_group*, 2> groups{make("one"), make("two")};
    std::array<void*, 2> objects{};
    for (size_t i = 0; i < 2; ++i)
      objects[i] = allocate_in(groups[i], cache);
    EXPECT_EQ(slab_cache_destroy_detach(cache), 1);
    EXPECT_EQ(child_id(cache, groups[0]), 0U);
    slab_cache* next = make_cache("detached", 64, args);
    slab_cache_free(cache, objects[0]);
    EXPECT_FALSE(is_gone(cache));
    EXPECT_EQ(stats_of(cache).active_objects, 1U);
    EXPECT_EQ(slab_group_destroy(groups[1]), -EBUSY) << "the zombie's object is the group's";
    deallocate(objects[1]);
    EXPECT_TRUE(is_gone(cache));
    for (slab_group* group : groups)
      EXPECT_EQ(slab_group_destroy(group), 0);
    EXPECT_EQ(slab_cache_destroy(next), 0);
  }
}

// A thread's list would hide it.
TEST_F(CacheChildTest, TheLastFreeOfADetachedCacheIsSeenAtOnce) {
  slab_cache* cache = make_cache("seen", 64);
  slab_group* group = make("seeing");
  testing::Signal used;
  testing::Signal detached;
  testing::SlabThread holder([&] {
    std::array<void*, 20> objects{};
    for (void*& object : objects)
      object = allocate_in(group, cache);
    for (size_t i = 1; i < objects.size(); ++i)
      slab_cache_free(cache, objects[i]);  // the list has room for more
    used.set();
    detached.wait();
    deallocate(objects[0]);
    EXPECT_TRUE(is_gone(cache));
  });
  used.wait();
  EXPECT_EQ(slab_cache_destroy_detach(cache), 1);
  detached.set();
  holder.join();
  EXPECT_EQ(slab_group_destroy(group), 0);
}

TEST_F(CacheChildTest, AGroupWithObjectsOfACacheGoesOfflineAndThenGoes) {
  slab_cache* cache = make_cache("kept", 64);
  slab_group* group = make("leaving");
  std::array<void*, 2> objects{allocate_in(group, cache), allocate_in(group, cache)};
  EXPECT_EQ(slab_group_destroy(group), -EBUSY);
  EXPECT_EQ(slab_group_destroy_detach(group), 1);
  slab_cache_free(cache, objects[0]);
  g_groups.release_unused();
  EXPECT_EQ(stats_of(group).active_objects, 1U);
  in_thread([&] { slab_cache_free(cache, objects[1]); });
  g_groups.release_unused();
  EXPECT_TRUE(testing::gone(group));
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheChildTest, ShrinkGivesBackWhatChildrenKeep) {
  for (const slab_cache_args& args :
       {args_with(0), counting(),
        args_with(SLAB_TYPESAFE_BY_RCU, nullptr, nullptr, FakeRcu::flavor())}) {
    slab_cache* cache = make_cache("shrunk", 64, args);
    slab_group* group = make("keeping");
    slab_cache_free(cache, allocate_in(group, cache));
    EXPECT_EQ(stats_of(cache).slabs, 1U);
    EXPECT_EQ(slab_cache_shrink(cache), 1);
    EXPECT_EQ(stats_of(cache).slabs, 0U);
    EXPECT_EQ(stats_of(group).held_bytes, 0U);
    EXPECT_EQ(slab_cache_destroy(cache), 0);
    EXPECT_EQ(slab_group_destroy(group), 0);
  }
}

TEST_F(CacheChildTest, WithoutAnIdItIsTheCachesOwn) {
  ASSERT_EQ(
      in_child([] {
        slab_cache* cache = slab_cache_create("crowded", 64, nullptr);
        slab_group* group = slab_group_create("crowd");
        std::vector<slab_cache*> fillers;
        for (int i = 0;; ++i) {
          slab_cache* filler =
              slab_cache_create(("fill-" + std::to_string(i)).c_str(), 64, nullptr);
          if (filler == nullptr)
            break;
          fillers.push_back(filler);
        }
        std::vector<void*> others;  // so that no child's id is left over either
        for (slab_cache* filler : fillers)
          others.push_back(allocate_in(group, filler));
        const uint64_t in_children = stats_of(group).active_objects;
        void* object = allocate_in(group, cache);
        if (object == nullptr || id_of(object) != testing::inside(cache)->id())
          return 1;
        if (stats_of(group).active_objects != in_children || stats_of(cache).active_objects != 1)
          return 2;
        slab_cache_free(cache, object);
        for (void* other : others)
          deallocate(other);
        if (slab_group_destroy(group) != 0 || child_id(cache, group) != 0)
          return 3;
        return slab_cache_destroy(cache) == 0 ? 0 : 4;
      }),
      0);
}

TEST_F(CacheChildTest, AForkChildGoesOn) {
  slab_cache* cache = make_cache("inherited", 64);
  slab_group* group = make("heirs");
  void* object = allocate_in(group, cache);
  heap_lock_for_fork();
  const int code = in_child([&] {
    heap_reset_after_fork();
    void* mine = allocate_in(group, cache);
    if (id_of(mine) != id_of(object) || slab_cache_destroy(cache) != -EBUSY)
      return 1;
    slab_cache_free(cache, mine);
    slab_cache_free(cache, object);
    if (slab_group_destroy(group) != 0 || slab_cache_destroy(cache) != 0)
      return 2;
    return g_cache_children.in_use() == 0 && g_object_caches.leaving() == 0 ? 0 : 3;
  });
  heap_unlock_after_fork();
  EXPECT_EQ(code, 0);
  slab_cache_free(cache, object);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(slab_group_destroy(group), 0);
}

TEST_F(CacheChildTest, AnObjectOfAnotherCachesChildEndsTheProgram) {
  slab_cache* cache = make_cache("right", 64);
  slab_cache* wrong = make_cache("wrong", 64);
  slab_group* group = make("confused");
  void* object = allocate_in(group, cache);
  EXPECT_DEATH(slab_cache_free(wrong, object),
               "wrong cache for .*it is of right, freed into wrong");
  slab_cache_free(cache, object);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(slab_cache_destroy(wrong), 0);
  EXPECT_EQ(slab_group_destroy(group), 0);
}

}  // namespace
}  // namespace slabscope
