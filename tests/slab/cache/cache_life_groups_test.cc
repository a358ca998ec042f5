// SPDX-License-Identifier: MIT
//
// The races and rules of caches that have children: those points of the review (cache_life_test.cc)
// that are about groups, and what may come between two steps of their end.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <vector>

#include "slab/pages/meta.h"
#include "tests/slab/cache/child_fixture.h"

namespace slabscope {
namespace {

using testing::allocate_in;
using testing::args_with;
using testing::AtPoint;
using testing::child_id;
using testing::FakeRcu;
using testing::gone;
using testing::id_of;
using testing::in_child;
using testing::in_thread;
using testing::in_threads;
using testing::inside;
using testing::is_gone;
using testing::make;
using testing::make_cache;
using testing::pass_the_slow_path;
using testing::shown;
using testing::Signal;
using testing::SlabThread;
using testing::stats_of;

class CacheLifeGroups : public testing::ChildTest {
 protected:
  CacheLifeGroups() {
    g_hooks.group_destroy_refused = [](const RefusedGroup& what) { refused_.push_back(what); };
    refused_.clear();
  }
  static inline std::vector<RefusedGroup> refused_;
};

// The check that the first fix wiped out: a group does not go with something in it, and says so.
TEST_F(CacheLifeGroups, S5_AGroupWithObjectsIsNotDestroyedAndSaysSo) {
  slab_cache* cache = make_cache("checked", 64);
  slab_group* group = make("checked");
  void* of_cache = allocate_in(group, cache);
  EXPECT_EQ(slab_group_destroy(group), -EBUSY) << "an object of a cache was overlooked";
  ASSERT_EQ(refused_.size(), 1U);
  EXPECT_EQ(refused_[0].number, inside(group)->number());
  EXPECT_EQ(refused_[0].objects, 1U);
  EXPECT_EQ(refused_[0].bytes, 64U);
  slab_group_enter(group);
  void* of_malloc = allocate(64);
  slab_group_leave();
  slab_cache_free(cache, of_cache);
  EXPECT_EQ(slab_group_destroy(group), -EBUSY) << "an object of malloc's was overlooked";
  EXPECT_EQ(refused_.size(), 2U);
  deallocate(of_malloc);
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(refused_.size(), 2U);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// A root's index forgets a child before the child retires, whichever of the two goes.
TEST_F(CacheLifeGroups, S7_TheIndexIsClearedBeforeAChildRetires) {
  static ObjectCache* root;
  static unsigned number;
  static unsigned child;
  static std::vector<CacheLife> seen;
  g_hooks.cache_changed = [](unsigned id, CacheLife life) {
    if (id != child)
      return;
    EXPECT_EQ(root->child_of(number), 0U) << "a thread can still find a child that goes";
    seen.push_back(life);
  };
  for (const bool by_group : {true, false}) {
    slab_cache* cache = make_cache("indexed", 64);
    slab_group* group = make("indexed");
    root = inside(cache);
    number = inside(group)->number();
    seen.clear();
    child = 0;
    slab_cache_free(cache, allocate_in(group, cache));
    child = child_id(cache, group);
    ASSERT_NE(child, 0U);
    if (by_group) {
      EXPECT_EQ(slab_group_destroy(group), 0);
    } else {
      EXPECT_EQ(slab_cache_destroy(cache), 0);
    }
    EXPECT_EQ(seen, (std::vector<CacheLife>{CacheLife::kRetiring, CacheLife::kFree}));
    if (by_group) {
      // The number is another group's now; the root makes another child for it.
      slab_group* next = make("indexed-too");
      EXPECT_EQ(inside(next)->number(), number);
      child = 0;
      void* object = allocate_in(next, cache);
      EXPECT_EQ(id_of(object), child_id(cache, next));
      EXPECT_EQ(stats_of(next).active_objects, 1U);
      slab_cache_free(cache, object);
      EXPECT_EQ(slab_group_destroy(next), 0);
      EXPECT_EQ(slab_cache_destroy(cache), 0);
    } else {
      EXPECT_EQ(slab_group_destroy(group), 0);
    }
  }
}

// The row's own scenario: a destroy fails because one child is busy; the root serves on in the
// other groups, in new ones, and in those that go meanwhile.
TEST_F(CacheLifeGroups, S7_ARootServesOnInEveryGroupAfterARefusedDestroy) {
  slab_cache* cache = make_cache("reused", 64);
  const std::array<slab_group*, 3> groups{make("busy"), make("empty"), make("ended")};
  void* kept = allocate_in(groups[0], cache);
  for (size_t i = 1; i < groups.size(); ++i)
    slab_cache_free(cache, allocate_in(groups[i], cache));
  const unsigned of_empty = child_id(cache, groups[1]);
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  EXPECT_EQ(child_id(cache, groups[1]), of_empty);
  EXPECT_EQ(slab_group_destroy(groups[2]), 0);
  EXPECT_EQ(child_id(cache, groups[2]), 0U);
  slab_group* added = make("added");  // may have that one's number
  for (slab_group* group : {groups[0], groups[1], added}) {
    void* object = allocate_in(group, cache);
    EXPECT_EQ(id_of(object), child_id(cache, group));
    EXPECT_EQ(stats_of(group).active_objects, group == groups[0] ? 2U : 1U);
    slab_cache_free(cache, object);
  }
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  slab_cache_free(cache, kept);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  for (slab_group* group : {groups[0], groups[1], added})
    EXPECT_EQ(slab_group_destroy(group), 0);
}

// Children stand under roots alone: aliases, malloc's children and children have none.
TEST_F(CacheLifeGroups, S10_OnlyRootsHaveChildren) {
  static std::vector<CacheInfo> created;
  created.clear();
  g_hooks.cache_created = [](const CacheInfo& info) -> CacheStats* {
    created.push_back(info);
    return nullptr;
  };
  slab_cache* plain = make_cache("plain", 64);
  slab_cache* alias = make_cache("alias", 64, args_with(SLAB_MERGE));
  slab_group* outer = make("outer");
  slab_group* inner = make("inner");
  std::vector<std::pair<slab_cache*, void*>> objects;
  const unsigned made = static_cast<unsigned>(created.size());
  slab_group_enter(outer);
  for (slab_cache* cache : {plain, alias}) {
    objects.emplace_back(cache, slab_cache_alloc(cache));
    objects.emplace_back(cache, allocate_in(inner, cache));  // entered inside of the other
  }
  slab_group_leave();
  EXPECT_EQ(created.size(), made + 4U) << "one child for each root and group";
  slab_cache* shared = slab_cache_of(objects[2].second);
  for (size_t i = made; i < created.size(); ++i) {
    EXPECT_TRUE(created[i].parent == inside(plain)->id() ||
                created[i].parent == inside(shared)->id())
        << "under something that is no root";
    EXPECT_TRUE(created[i].group == inside(outer)->number() ||
                created[i].group == inside(inner)->number());
    EXPECT_EQ(object_cache(created[i].id), nullptr) << "a child that could have children";
  }
  for (const auto& [cache, object] : objects)
    slab_cache_free(cache, object);
  for (slab_cache* cache : {plain, alias})
    EXPECT_EQ(slab_cache_destroy(cache), 0);
  for (slab_group* group : {outer, inner})
    EXPECT_EQ(slab_group_destroy(group), 0);
}

// One child of many refuses: none goes, nothing changes, and everything still serves.
TEST_F(CacheLifeGroups, S12_NoneGoesIfOneRefuses) {
  slab_cache* cache = make_cache("all-or-nothing", 64);
  const std::array<slab_group*, 4> groups{make("g1"), make("g2"), make("g3"), make("g4")};
  std::array<unsigned, 4> children{};
  for (size_t i = 0; i < groups.size(); ++i) {
    slab_cache_free(cache, allocate_in(groups[i], cache));
    children[i] = child_id(cache, groups[i]);
  }
  for (slab_group* busy : groups) {
    void* kept = allocate_in(busy, cache);
    const slab_cache_stats before = stats_of(cache);
    EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
    for (size_t i = 0; i < groups.size(); ++i) {
      EXPECT_EQ(child_id(cache, groups[i]), children[i]) << "a child went";
      EXPECT_FALSE(g_caches.object_pair(children[i])->draining) << "a child is still leaving";
    }
    const slab_cache_stats after = stats_of(cache);
    EXPECT_EQ(after.active_objects, before.active_objects);
    EXPECT_EQ(after.allocations_total, before.allocations_total);
    EXPECT_EQ(slab_cache_find("all-or-nothing"), cache);
    slab_cache_put(cache);
    slab_cache_free(cache, kept);
  }
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  for (slab_group* group : groups)
    EXPECT_EQ(slab_group_destroy(group), 0);
}

// Also a264df74df38: a root outlives its children, however late these are released.
TEST_F(CacheLifeGroups, S12_ChildrenGoBeforeTheirRoot) {
  static std::vector<unsigned> freed;
  freed.clear();
  g_hooks.cache_changed = [](unsigned id, CacheLife life) {
    if (life == CacheLife::kFree)
      freed.push_back(id);
  };
  slab_cache* cache = make_cache("parent", 64);
  const unsigned root = inside(cache)->id();
  slab_group* group = make("held-up");
  Signal used;
  Signal destroyed;
  SlabThread holder([&] {
    slab_cache_free(cache, allocate_in(group, cache));  // stays on this thread's list
    used.set();
    destroyed.wait();
    EXPECT_TRUE(freed.empty()) << "the root was released before its child";
    pass_the_slow_path();
  });
  used.wait();
  const unsigned child = child_id(cache, group);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(g_object_caches.leaving(), 1U);
  destroyed.set();
  holder.join();
  EXPECT_EQ(freed, (std::vector<unsigned>{child, root}));
  EXPECT_EQ(slab_group_destroy(group), 0);
}

// A group is not released, and its number not another's, before its children are.
TEST_F(CacheLifeGroups, AGroupIsReleasedAfterItsChildren) {
  slab_cache* cache = make_cache("held", 64);
  slab_group* group = make("waits");
  Signal used;
  Signal destroyed;
  SlabThread holder([&] {
    slab_cache_free(cache, allocate_in(group, cache));
    used.set();
    destroyed.wait();
    EXPECT_EQ(g_groups.leaving(), 1U) << "the group was released before its child";
    pass_the_slow_path();
    EXPECT_EQ(g_groups.leaving(), 0U);
  });
  used.wait();
  EXPECT_EQ(slab_group_destroy(group), 0);
  destroyed.set();
  holder.join();
  EXPECT_TRUE(gone(group));
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// 92ee383f6daa, for children: a thread that has found a child's id finds the child, or nothing.
TEST_F(CacheLifeGroups, L92ee_AChildThatWasFoundIsStillThatChildOrNone) {
  slab_cache* cache = make_cache("found", 64);
  slab_group* group = make("finders");
  slab_cache_free(cache, allocate_in(group, cache));
  Signal found;
  Signal reused;
  slab_cache* other = nullptr;
  slab_group* others_group = nullptr;
  void* kept = nullptr;
  {
    const AtPoint at(TestPoint::kChildFound, [&] {
      found.set();
      reused.wait();
    });
    SlabThread allocator([&] {
      EXPECT_EQ(allocate_in(group, cache), nullptr) << "it is another cache's object";
      EXPECT_EQ(errno, ENODEV);
    });
    found.wait();
    EXPECT_EQ(slab_cache_destroy(cache), 0);
    // Another cache gets the child's record, and its id.
    other = make_cache("other", 64);
    others_group = make("others");
    kept = allocate_in(others_group, other);
    reused.set();
  }
  EXPECT_EQ(stats_of(other).active_objects, 1U);
  EXPECT_EQ(stats_of(other).allocations_total, 1U);
  slab_cache_free(other, kept);
  EXPECT_EQ(slab_cache_destroy(other), 0);
  EXPECT_EQ(slab_group_destroy(others_group), 0);
  EXPECT_EQ(slab_group_destroy(group), 0);
}

// The pending create of 92ee383f6daa: no child is made for a root that has been judged.
TEST_F(CacheLifeGroups, L92ee_NoChildIsMadeForARootThatIsDying) {
  slab_cache* cache = make_cache("judged", 64);
  slab_group* group = make("late");
  Signal held;
  Signal destroyed;
  {
    const AtPoint at(TestPoint::kAllocateHeld, [&] {
      held.set();
      destroyed.wait();
    });
    SlabThread allocator([&] {
      EXPECT_EQ(allocate_in(group, cache), nullptr);
      EXPECT_EQ(errno, ENODEV);
    });
    held.wait();
    EXPECT_EQ(slab_cache_destroy(cache), 0);
    destroyed.set();
  }
  EXPECT_EQ(g_cache_children.in_use(), 0U);
  EXPECT_TRUE(is_gone(cache));
  EXPECT_EQ(slab_group_destroy(group), 0);
}

TEST_F(CacheLifeGroups, ThreadsAndGroupsThatComeWhileADestroyDecidesAreServed) {
  slab_cache* cache = make_cache("deciding", 64);
  slab_group* before = make("before");
  void* kept = allocate_in(before, cache);
  slab_group* meanwhile = nullptr;
  {
    const AtPoint at(TestPoint::kDestroyJudged, [&] {
      meanwhile = make("meanwhile");
      in_thread([&] {
        EXPECT_EQ(allocate_in(meanwhile, cache), nullptr);
        EXPECT_EQ(errno, ENODEV);
      });
    });
    EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  }
  in_thread([&] {
    void* object = allocate_in(meanwhile, cache);
    EXPECT_EQ(id_of(object), child_id(cache, meanwhile));
    EXPECT_EQ(stats_of(meanwhile).active_objects, 1U);
    slab_cache_free(cache, object);
  });
  slab_cache_free(cache, kept);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  for (slab_group* group : {before, meanwhile})
    EXPECT_EQ(slab_group_destroy(group), 0);
}

// 4ec10268ed98: all that remains is found, not what the first busy place has.
TEST_F(CacheLifeGroups, L4ec1_WhatRemainsIsCountedOnAllThreadsAndInAllGroups) {
  static uint64_t reported;
  g_hooks.destroy_refused = [](const RefusedDestroy& what) { reported = what.objects; };
  slab_cache* cache = make_cache("spread", 64);
  const std::array<slab_group*, 2> groups{make("first"), make("second")};
  std::array<std::array<void*, 3>, 3> objects{};
  in_threads(3, [&](unsigned thread) {
    objects[thread] = {slab_cache_alloc(cache), allocate_in(groups[0], cache),
                       allocate_in(groups[1], cache)};
  });
  uint64_t left = 9;
  for (const auto& of_thread : objects) {
    for (void* object : of_thread) {
      EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
      EXPECT_EQ(reported, left--);
      slab_cache_free(cache, object);
    }
  }
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  for (slab_group* group : groups)
    EXPECT_EQ(slab_group_destroy(group), 0);
}

// In the child nobody goes on with the destroy: it is as if the decision had not been made, or
// everything goes.
TEST_F(CacheLifeGroups, AForkBetweenTwoStepsOfADestroyLeavesNoHalfDestroyedChild) {
  for (const TestPoint point :
       {TestPoint::kDestroyDying, TestPoint::kDestroyJudged, TestPoint::kDestroyUnlinked,
        TestPoint::kDestroyQuiet, TestPoint::kDestroyRetired}) {
    slab_cache* cache = make_cache("forked", 64);
    slab_group* group = make("forked");
    slab_cache_free(cache, allocate_in(group, cache));
    const unsigned mine = child_id(cache, group);
    int code = -1;
    {
      const AtPoint at(point, [&] {
        in_thread([&] {
          heap_lock_for_fork();
          code = in_child([&] {
            heap_reset_after_fork();
            pass_the_slow_path();
            slab_cache* found = slab_cache_find("forked");
            if (found != nullptr) {
              slab_cache_put(found);
              if (child_id(found, group) != mine || g_caches.object_pair(mine)->draining.load())
                return 3;  // alive, but not as it was
              slab_cache_free(found, allocate_in(group, found));
              if (slab_cache_destroy(found) != 0)
                return 1;
            }
            if (slab_group_destroy(group) != 0)
              return 2;
            return 0;
          });
          heap_unlock_after_fork();
        });
      });
      EXPECT_EQ(slab_cache_destroy(cache), 0);
    }
    EXPECT_EQ(code, 0) << "at point " << static_cast<int>(point);
    EXPECT_EQ(slab_group_destroy(group), 0);
  }
}

// The same while a thread holds a child: it waits for the readers of what a group had.
TEST_F(CacheLifeGroups, AForkInAGracePeriodLeavesNoChildHeld) {
  static slab_cache* cache;
  static slab_group* group;
  static int code;
  code = -1;
  cache = make_cache("waited-for", 64,
                     args_with(SLAB_TYPESAFE_BY_RCU, nullptr, nullptr, FakeRcu::flavor()));
  group = make("waited-for");
  slab_cache_free(cache, allocate_in(group, cache));
  FakeRcu::on_wait = [] {
    FakeRcu::on_wait = nullptr;
    in_thread([] {
      heap_lock_for_fork();
      code = in_child([] {
        heap_reset_after_fork();
        pass_the_slow_path();
        if (slab_cache_destroy(cache) != 0)
          return 1;
        return g_cache_children.in_use() == 0 && g_groups.leaving() == 0 ? 0 : 2;
      });
      heap_unlock_after_fork();
    });
  };
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(code, 0);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// 10 000 lives in two groups, while others look, leave no descriptor, no id, no memory.
TEST_F(CacheLifeGroups, TenThousandLivesInGroupsLeaveNothing) {
  const std::array<slab_group*, 2> groups{make("always"), make("sometimes")};
  std::atomic<bool> done{false};
  std::atomic<unsigned> looks{0};
  const auto look = [&] {
    while (!done) {
      slab_cache_for_each(
          [](slab_cache* cache, void*) {
            EXPECT_STREQ(slab_cache_name(cache), "brief");
            for (const char* attribute : {"objects", "total_objects", "objects_partial", "slabs"}) {
              const std::string text = shown(cache, attribute);
              EXPECT_TRUE(text == "-ENODEV" || text.back() == '\n') << text;
            }
            return 0;
          },
          nullptr);
      ++looks;
    }
  };
  SlabThread first(look);
  SlabThread second(look);
  unsigned limit = 0;
  uint64_t metadata = 0;
  uint64_t slabs = 0;
  const int lives = testing::kThreadSanitizer ? 300 : 10'000;  // each visits every slab's place
  for (int life = 0; life < lives; ++life) {
    slab_cache* cache = make_cache("brief", 64);
    std::array<void*, 3> objects{slab_cache_alloc(cache), allocate_in(groups[0], cache),
                                 life % 2 == 0 ? allocate_in(groups[1], cache) : nullptr};
    for (void* object : objects)
      slab_cache_free(cache, object);
    ASSERT_EQ(slab_cache_destroy(cache), 0);
    if (life == 100) {
      limit = g_caches.limit();
      metadata = meta_mapped_bytes();
      slabs = stat_get(g_heap_stats->mapped_slab_bytes);
    }
  }
  done = true;
  first.join();
  second.join();
  EXPECT_GT(looks.load(), 0U);
  // Each reader may hold a cache that goes, and its two children, while the next one comes.
  EXPECT_LE(g_caches.limit(), limit + 6);
  EXPECT_LE(meta_mapped_bytes(), metadata + (256U << 10)) << "more than those records";
  EXPECT_LE(stat_get(g_heap_stats->mapped_slab_bytes), slabs);
  for (slab_group* group : groups)
    EXPECT_EQ(slab_group_destroy(group), 0);
}

}  // namespace
}  // namespace slabscope
