// SPDX-License-Identifier: MIT
//
// Groups through their C functions: whose an object is, nesting, destroying. Steps between threads
// are forced by waiting for each other.

#include "slab/cache/group.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <latch>
#include <string>
#include <vector>

#include "tests/slab/cache/group_fixture.h"

namespace slabscope {
namespace {

using testing::base_of;
using testing::gone;
using testing::GroupScope;
using testing::GroupTest;
using testing::id_of;
using testing::in_child;
using testing::in_thread;
using testing::in_threads;
using testing::make;
using testing::pass_the_slow_path;
using testing::stats_of;

TEST_F(GroupTest, CreateRefusesWhatCannotBe) {
  const auto error = [](const char* name) {
    errno = 0;
    slab_group* group = slab_group_create(name);
    if (group == nullptr)
      return errno;
    EXPECT_EQ(slab_group_destroy(group), 0);
    return 0;
  };
  EXPECT_EQ(error(nullptr), EINVAL);
  EXPECT_EQ(error(""), EINVAL);
  EXPECT_EQ(error("two words"), EINVAL);
  EXPECT_EQ(error(std::string(64, 'x').c_str()), ENAMETOOLONG);
  slab_group* group = make("taken");
  EXPECT_EQ(error("taken"), EEXIST);
  EXPECT_STREQ(slab_group_name(group), "taken");
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(error("taken"), 0);
}

TEST_F(GroupTest, AnObjectIsOfTheGroupItsThreadWasIn) {
  slab_group* group = make("inside");
  void* before = allocate(100);
  slab_group_enter(group);
  std::array<void*, 40> inside{};
  for (void*& object : inside)
    object = allocate(100);
  void* medium = allocate(5000);
  slab_group_leave();
  void* after = allocate(100);
  for (void* object : inside)
    EXPECT_EQ(id_of(object), base_of(group) + 7);
  EXPECT_EQ(id_of(before), 7U);
  EXPECT_EQ(id_of(after), 7U);
  const slab_group_stats stats = stats_of(group);
  EXPECT_EQ(stats.active_objects, 41U);
  EXPECT_EQ(stats.active_bytes, 40U * 112 + 5120);
  EXPECT_GE(stats.held_bytes, 2U * 16384);
  EXPECT_EQ(stats.threads, 0U);
  for (void* object : inside)
    deallocate(object);  // in no group: each goes back to where it came from
  deallocate(medium);
  deallocate(before);
  deallocate(after);
  EXPECT_EQ(stats_of(group).active_objects, 0U);
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_TRUE(gone(group));
}

TEST_F(GroupTest, ChildrenAreMadeWhenTheyAreNeeded) {
  slab_group* group = make("lazy");
  const auto children = [&] {
    unsigned count = 0;
    for (unsigned id = base_of(group); id < base_of(group) + Config::kGroupIds; ++id)
      count += g_caches.ready(id) ? 1U : 0U;
    return count;
  };
  EXPECT_EQ(children(), 0U);
  {
    const GroupScope scope(group);
    deallocate(allocate(16));
    deallocate(allocate(0));
    EXPECT_EQ(children(), 1U);
    deallocate(allocate(17));
    EXPECT_EQ(children(), 2U);
  }
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(children(), 0U);
}

TEST_F(GroupTest, LargeBlocksCountInTheirGroup) {
  slab_group* group = make("large");
  const uint64_t outside = g_threads.total(Config::kLargeId).allocs;
  slab_group_enter(group);
  void* run = allocate(100'000);
  void* huge = allocate(40 << 20);
  slab_group_leave();
  EXPECT_EQ(g_threads.total(Config::kLargeId).allocs, outside);
  const size_t bytes = large_size(run) + large_size(huge);
  EXPECT_EQ(stats_of(group).active_objects, 2U);
  EXPECT_EQ(stats_of(group).active_bytes, bytes);
  EXPECT_EQ(stats_of(group).held_bytes, bytes);
  run = reallocate(run, 300'000);  // in place or moved: it stays the group's
  huge = reallocate(huge, 50 << 20);
  EXPECT_EQ(stats_of(group).active_bytes, large_size(run) + large_size(huge));
  EXPECT_EQ(stats_of(group).held_bytes, large_size(run) + large_size(huge));
  EXPECT_EQ(slab_group_destroy(group), -EBUSY);
  in_thread([&] { deallocate(run); });
  deallocate(huge);
  EXPECT_EQ(stats_of(group).held_bytes, 0U);
  EXPECT_EQ(slab_group_destroy(group), 0);
}

TEST_F(GroupTest, WhatACaptureAllocatesIsInNoGroup) {
  static std::vector<void*> captured;
  captured.clear();
  g_hooks.sample_distance = [](uint64_t*, size_t, uint32_t) { return uint64_t{0}; };
  g_hooks.sample_bytes = [](uint64_t*, uint32_t) { return uint64_t{0}; };
  g_hooks.capture = [] {
    captured.push_back(allocate(64));
    return uint32_t{0};
  };
  slab_group* group = make("captured");
  in_thread([&] {
    deallocate(allocate(64));
    slab_group_enter(group);
    deallocate(allocate(64));
    deallocate(allocate(64'000));
    EXPECT_EQ(stats_of(group).active_objects, 0U);
    void* mine = allocate(64);
    EXPECT_EQ(stats_of(group).active_objects, 1U);
    deallocate(mine);
    slab_group_leave();
  });
  EXPECT_GE(captured.size(), 3U);
  for (void* block : captured) {
    EXPECT_EQ(id_of(block), 4U);
    deallocate(block);
  }
  EXPECT_EQ(slab_group_destroy(group), 0);
}

TEST_F(GroupTest, EnteringNests) {
  slab_group* outer = make("outer");
  slab_group* inner = make("inner");
  const auto base = [] {
    void* object = allocate(64);
    const unsigned id = id_of(object);
    deallocate(object);
    return id - 4;
  };
  slab_group_leave();  // there is nothing to leave
  EXPECT_EQ(base(), 0U);
  slab_group_enter(outer);
  EXPECT_EQ(base(), base_of(outer));
  slab_group_enter(inner);
  slab_group_enter(inner);
  EXPECT_EQ(stats_of(inner).threads, 2U);
  EXPECT_EQ(base(), base_of(inner));
  slab_group_enter(nullptr);
  EXPECT_EQ(base(), 0U);
  slab_group_leave();
  EXPECT_EQ(base(), base_of(inner));
  slab_group_leave();
  slab_group_leave();
  EXPECT_EQ(base(), base_of(outer));
  slab_group_leave();
  EXPECT_EQ(base(), 0U);
  // Deeper than it is known: the deepest known group stays, and each leave undoes one enter.
  for (unsigned i = 0; i < Config::kGroupNesting + 3; ++i)
    slab_group_enter(i + 1 < Config::kGroupNesting ? outer : inner);
  EXPECT_EQ(base(), base_of(inner));
  for (unsigned i = 0; i < 4; ++i)
    slab_group_leave();
  EXPECT_EQ(base(), base_of(outer));
  for (unsigned i = 1; i < Config::kGroupNesting; ++i)
    slab_group_leave();
  EXPECT_EQ(base(), 0U);
  EXPECT_EQ(slab_group_destroy(inner), 0);
  EXPECT_EQ(slab_group_destroy(outer), 0);
}

TEST_F(GroupTest, AThreadThatEndsHasLeft) {
  slab_group* group = make("left");
  void* object = nullptr;
  in_thread([&] {
    slab_group_enter(group);
    slab_group_enter(group);
    object = allocate(64);
  });
  EXPECT_EQ(stats_of(group).threads, 0U);
  in_thread([] { EXPECT_EQ(ThreadCache::current(), nullptr); });
  EXPECT_EQ(slab_group_destroy(group), -EBUSY);
  deallocate(object);
  EXPECT_EQ(slab_group_destroy(group), 0);
}

TEST_F(GroupTest, ARefusedDestroyChangesNothing) {
  slab_group* group = make("busy");
  slab_group_enter(group);
  EXPECT_EQ(slab_group_destroy(group), -EBUSY);  // a thread is in it
  ASSERT_EQ(refused_.size(), 1U);
  EXPECT_EQ(refused_[0].threads, 1U);
  EXPECT_EQ(refused_[0].objects, 0U);
  void* object = allocate(64);
  slab_group_leave();
  EXPECT_EQ(slab_group_destroy(group), -EBUSY);  // an object is
  ASSERT_EQ(refused_.size(), 2U);
  EXPECT_STREQ(refused_[1].name, "busy");
  EXPECT_EQ(refused_[1].first_id, base_of(group));
  EXPECT_EQ(refused_[1].objects, 1U);
  EXPECT_EQ(refused_[1].bytes, 64U);
  EXPECT_EQ(refused_[1].threads, 0U);
  errno = 0;
  EXPECT_EQ(slab_group_create("busy"), nullptr);
  EXPECT_EQ(errno, EEXIST);
  {
    const GroupScope scope(group);
    void* another = allocate(64);
    EXPECT_EQ(id_of(another), base_of(group) + 4);
    deallocate(another);
  }
  deallocate(object);
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(slab_group_destroy(group), -EINVAL);
  EXPECT_EQ(slab_group_destroy(nullptr), 0);
}

TEST_F(GroupTest, FreeObjectsOnOtherThreadsListsDoNotCount) {
  slab_group* group = make("lists");
  std::latch used(1);
  std::latch destroyed(1);
  testing::SlabThread holder([&] {
    slab_group_enter(group);
    std::array<void*, 20> objects{};
    for (void*& object : objects)
      object = allocate(64);
    for (void* object : objects)
      deallocate(object);
    slab_group_leave();
    used.count_down();
    destroyed.wait();
    EXPECT_NE(g_groups.leaving(), 0U);
    pass_the_slow_path();  // drains
    EXPECT_EQ(g_groups.leaving(), 0U);
  });
  used.wait();
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(g_groups.leaving(), 1U);
  slab_group* again = make("lists");  // the name is free at once, the run is not
  EXPECT_NE(again, group);
  EXPECT_EQ(slab_group_destroy(again), 0);
  destroyed.count_down();
  holder.join();
  EXPECT_TRUE(gone(group));
}

TEST_F(GroupTest, ADetachedGroupGoesWithItsLastObject) {
  slab_group* group = make("detached");
  slab_group_enter(group);
  void* object = allocate(64);
  EXPECT_EQ(slab_group_destroy_detach(group), 1);
  EXPECT_EQ(slab_group_destroy_detach(group), -EINVAL);
  slab_group* again = make("detached");
  void* late = allocate(64);  // the thread is still in it
  EXPECT_EQ(id_of(late), base_of(group) + 4);
  slab_group_leave();
  slab_group_enter(group);  // nobody enters any more
  void* outside = allocate(64);
  EXPECT_EQ(id_of(outside), 4U);
  slab_group_leave();
  deallocate(outside);
  deallocate(late);
  g_groups.release_unused();
  EXPECT_FALSE(gone(group));
  deallocate(object);
  g_groups.release_unused();
  EXPECT_TRUE(gone(group));
  EXPECT_EQ(slab_group_destroy_detach(again), 0);
}

TEST_F(GroupTest, WhatAGroupCountedStaysInTheSums) {
  const auto sum = [](unsigned id) {
    CounterPair total = g_threads.total(id);
    for (unsigned child = Config::kFirstObjectId; child < g_caches.limit(); ++child) {
      const ObjectPair* pair = g_caches.object_pair(child);
      if (pair == nullptr || pair->pair_kind != PairKind::kGroupChild || !g_caches.ready(child) ||
          child - static_cast<const GroupChild*>(pair)->group->base() != id) {
        continue;
      }
      total.allocs += g_threads.total(child).allocs;
      total.frees += g_threads.total(child).frees;
    }
    return total;
  };
  deallocate(allocate(96));
  const CounterPair before = sum(6);
  slab_group* group = make("summed");
  {
    const GroupScope scope(group);
    for (int i = 0; i < 100; ++i)
      deallocate(allocate(96));
  }
  EXPECT_EQ(sum(6).allocs - before.allocs, 100U);
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(sum(6).allocs - before.allocs, 100U);
  EXPECT_EQ(sum(6).frees - before.frees, 100U);
  EXPECT_TRUE(gone(group));
}

TEST_F(GroupTest, ThreeSitesFourThreadsTwoGroups) {
  const std::array<slab_group*, 2> groups{make("even"), make("odd")};
  std::array<std::array<void*, 3>, 4> objects{};
  in_threads(4, [&](unsigned thread) {
    const GroupScope scope(groups[thread % 2]);
    objects[thread] = {allocate(48), allocate(480), allocate(48'000)};
  });
  for (slab_group* group : groups)
    EXPECT_EQ(slab_group_destroy(group), -EBUSY);
  ASSERT_EQ(refused_.size(), 2U);
  EXPECT_EQ(refused_[0].objects, 6U);
  EXPECT_EQ(refused_[1].objects, 6U);
  for (const auto& of_thread : objects) {
    for (void* object : of_thread)
      deallocate(object);
  }
  for (slab_group* group : groups)
    EXPECT_EQ(slab_group_destroy(group), 0);
}

TEST_F(GroupTest, AsManyGroupsAsThereAreRuns) {
  ASSERT_EQ(in_child([] {
              std::vector<slab_group*> groups;
              for (;;) {
                slab_group* group =
                    slab_group_create(("many-" + std::to_string(groups.size())).c_str());
                if (group == nullptr)
                  break;
                groups.push_back(group);
              }
              if (errno != ENOSPC || groups.size() < 20)
                return 1;
              for (slab_group* group : groups) {
                slab_group_enter(group);
                void* object = allocate(32);
                slab_group_leave();
                if (id_of(object) != base_of(group) + 2)
                  return 2;
                deallocate(object);
              }
              g_groups.join("late");  // no room: not even for "other"
              void* object = allocate(32);
              if (id_of(object) != 2)
                return 3;
              if (slab_group_destroy(groups.back()) != 0)
                return 4;
              return slab_group_create("again") != nullptr ? 0 : 5;
            }),
            0);
}

}  // namespace
}  // namespace slabscope
