// SPDX-License-Identifier: MIT
//
// Groups: limits, threads that are grouped by their names, fork, and a stress.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <latch>
#include <string>
#include <vector>

#include "tests/slab/cache/group_fixture.h"

namespace slabscope {
namespace {

using testing::base_of;
using testing::GroupScope;
using testing::GroupTest;
using testing::id_of;
using testing::in_child;
using testing::in_thread;
using testing::in_threads;
using testing::make;
using testing::pass_the_slow_path;
using testing::stats_of;

// ---- limits ---------------------------------------------------------------------------------

TEST_F(GroupTest, AtItsLimitAGroupGetsNoMore) {
  slab_group* group = make("limited");
  EXPECT_EQ(slab_group_set_limit(group, 128 << 10, nullptr), 0);
  std::vector<void*> objects;
  slab_group_enter(group);
  for (void* object = allocate(1024); object != nullptr; object = allocate(1024))
    objects.push_back(object);
  EXPECT_EQ(objects.size(), 128U);
  EXPECT_EQ(allocate(100'000), nullptr);
  EXPECT_GT(stats_of(group).allocations_refused, 0U);
  EXPECT_EQ(stats_of(group).held_bytes, uint64_t{128 << 10});
  slab_group_leave();
  void* outside = allocate(1024);
  EXPECT_NE(outside, nullptr);
  deallocate(outside);
  for (void* object : objects)
    deallocate(object);
  slab_group_enter(group);
  void* other_size = allocate(100'000);  // what is free on lists and in slabs goes first
  EXPECT_NE(other_size, nullptr);
  EXPECT_EQ(reallocate(other_size, 200'000), nullptr);
  deallocate(other_size);
  EXPECT_EQ(slab_group_set_limit(group, 0, nullptr), 0);
  void* beyond = allocate(1 << 20);
  EXPECT_NE(beyond, nullptr);
  deallocate(beyond);
  slab_group_leave();
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(slab_group_set_limit(group, 1, nullptr), -EINVAL);
}

TEST_F(GroupTest, TheCallbackMayMakeRoom) {
  static std::vector<void*> spare;
  static int calls = 0;
  slab_group* group = make("callback");
  const auto free_one = [](slab_group*, size_t wanted) {
    EXPECT_EQ(wanted, 40'000U);
    ++calls;
    EXPECT_EQ(allocate(60'000), nullptr);  // fails at once: one question at a time
    if (spare.empty())
      return 0;
    deallocate(spare.back());
    spare.pop_back();
    return 1;
  };
  EXPECT_EQ(slab_group_set_limit(group, 3 * 49152, free_one), 0);
  slab_group_enter(group);
  for (int i = 0; i < 3; ++i)
    spare.push_back(allocate(40'000));
  EXPECT_EQ(calls, 0);
  std::array<void*, 3> more{};
  for (void*& block : more) {
    block = allocate(40'000);
    EXPECT_NE(block, nullptr);
  }
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(allocate(40'000), nullptr);
  EXPECT_EQ(calls, 4);
  for (void* block : more)
    deallocate(block);
  slab_group_leave();
  EXPECT_EQ(slab_group_destroy(group), 0);
}

// ---- by thread name -------------------------------------------------------------------------

slab_group_stats stats_by_name(const char* name) {
  slab_group_stats found{};
  for (unsigned id = Config::kFirstObjectId; id < g_caches.limit(); ++id) {
    ObjectPair* pair = g_caches.object_pair(id);
    if (pair == nullptr || pair->pair_kind != PairKind::kGroupChild || !g_caches.ready(id))
      continue;
    Group* group = static_cast<GroupChild*>(pair)->group;
    if (std::strcmp(group->name(), name) == 0) {
      found.active_objects = group->in_use().objects;
      found.threads = group->threads();
    }
  }
  return found;
}

TEST_F(GroupTest, ThreadsOfOneNameShareAGroupThatGoesWithTheLastObject) {
  std::array<void*, 2> objects{};
  in_threads(2, [&](unsigned thread) {
    g_groups.join("pool");
    objects[thread] = allocate(64);
  });
  EXPECT_EQ(id_of(objects[0]), id_of(objects[1]));
  EXPECT_EQ(stats_by_name("pool").active_objects, 2U);
  EXPECT_EQ(stats_by_name("pool").threads, 0U);
  g_groups.release_unused();
  EXPECT_EQ(stats_by_name("pool").active_objects, 2U);  // offline, and visible
  in_thread([&] {
    g_groups.join("pool");  // comes back to the same one
    void* third = allocate(64);
    EXPECT_EQ(id_of(third), id_of(objects[0]));
    deallocate(third);
  });
  deallocate(objects[0]);
  deallocate(objects[1]);
  g_groups.release_unused();
  EXPECT_EQ(stats_by_name("pool").active_objects, 0U);
  EXPECT_EQ(g_groups.leaving(), 0U);
  EXPECT_EQ(slab_group_destroy(make("pool")), 0);
}

TEST_F(GroupTest, ARenamedThreadChangesItsGroupAtALook) {
  static std::string name;
  static int looks = 0;
  name = "first";
  looks = 0;
  g_hooks.thread_renamed = [] {
    ++looks;
    g_groups.join(name.c_str());
  };
  in_thread([] {
    g_groups.join(name.c_str());
    void* before = allocate(64);
    name = "second";
    const int looked = looks;
    std::vector<void*> objects;
    // The next visit to the slow path looks.
    while (looks == looked)  // NOLINT(bugprone-infinite-loop): a hook of allocate() counts
      objects.push_back(allocate(64));
    void* after = allocate(64);
    EXPECT_NE(id_of(after), id_of(before));
    EXPECT_EQ(stats_by_name("first").threads, 0U);
    EXPECT_EQ(stats_by_name("second").threads, 1U);
    objects.insert(objects.end(), {before, after});
    for (void* object : objects)
      deallocate(object);
    slab_group_enter(nullptr);  // a program's own scope goes before the name
    void* scoped = allocate(64);
    EXPECT_EQ(id_of(scoped), 4U);
    deallocate(scoped);
    slab_group_leave();
  });
  g_groups.release_unused();
  EXPECT_EQ(g_groups.leaving(), 0U);
}

TEST_F(GroupTest, NamesWithoutRoomShareOther) {
  ASSERT_EQ(in_child([] {
              std::atomic<int> result{0};
              for (unsigned i = 0; i < 2 * Config::kMaxGroups; ++i) {
                in_thread([&result, i] {
                  g_groups.join(("name-" + std::to_string(i)).c_str());
                  void* object = allocate(64);  // stays: the group cannot go
                  if (id_of(object) < Config::kFirstObjectId)
                    result = 1;
                });
              }
              if (stats_by_name("name-0").active_objects != 1)
                return 2;
              if (stats_by_name("other").active_objects < Config::kMaxGroups)
                return 3;
              return result.load();
            }),
            0);
}

// ---- fork -----------------------------------------------------------------------------------

TEST_F(GroupTest, AForkChildGoesOnInItsGroup) {
  slab_group* group = make("forked");
  slab_group* others = make("others");
  std::latch inside(1);
  std::latch done(1);
  testing::SlabThread other([&] {
    const GroupScope scope(others);
    deallocate(allocate(64));
    inside.count_down();
    done.wait();
  });
  inside.wait();
  slab_group_enter(group);
  void* object = allocate(64);
  heap_lock_for_fork();
  const pid_t pid = fork();
  if (pid == 0) {
    heap_reset_after_fork();
    int code = 0;
    void* mine = allocate(64);
    if (id_of(mine) != base_of(group) + 4 || stats_of(group).threads != 1)
      code = 1;
    deallocate(mine);
    deallocate(object);
    slab_group_leave();
    if (code == 0 && slab_group_destroy(group) != 0)
      code = 2;
    if (code == 0 && (slab_group_destroy(others) != 0 || g_groups.leaving() != 0))
      code = 3;  // the thread that was in it does not exist here
    _exit(code);
  }
  heap_unlock_after_fork();
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  done.count_down();
  other.join();
  deallocate(object);
  slab_group_leave();
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(slab_group_destroy(others), 0);
}

// ---- all at once ----------------------------------------------------------------------------

// Threads enter, allocate, hand over, free what others allocated; groups are made, refused,
// destroyed and detached meanwhile.
void stress() {
  g_hooks.group_destroy_refused = [](const RefusedGroup&) {};
  constexpr unsigned kThreads = 4;
  constexpr unsigned kRounds = testing::kThreadSanitizer ? 60 : 300;
  std::array<std::atomic<void*>, 64> handed{};
  in_threads(kThreads, [&](unsigned thread) {
    for (unsigned round = 0; round < kRounds; ++round) {
      slab_group* group =
          slab_group_create(("t" + std::to_string(thread) + "-" + std::to_string(round)).c_str());
      if (group == nullptr) {
        EXPECT_EQ(errno, ENOSPC);
        g_groups.release_unused();
        pass_the_slow_path();
        continue;
      }
      slab_group_enter(group);
      for (unsigned i = 0; i < 200; ++i) {
        const size_t size = (i * 37 + round * 101) % 3000 + (i % 50 == 0 ? 40'000 : 0);
        void* object = allocate(size);
        deallocate(handed[(i * 7 + thread) % handed.size()].exchange(object));
      }
      slab_group_leave();
      if (round % 3 == 0 && slab_group_destroy(group) == 0)
        continue;
      const int left = slab_group_destroy_detach(group);
      EXPECT_TRUE(left == 0 || left == 1) << left;
    }
  });
  for (auto& object : handed)
    deallocate(object.exchange(nullptr));
  g_groups.release_unused();
  pass_the_slow_path();
  EXPECT_EQ(g_groups.leaving(), 0U);
  testing::validate_heap();
}

// In a child: the ids of its groups are no other test's.
TEST_F(GroupTest, Stress) {
  EXPECT_EQ(in_child([] {
              stress();
              return ::testing::Test::HasFailure() ? 1 : 0;
            }),
            0);
}

}  // namespace
}  // namespace slabscope
