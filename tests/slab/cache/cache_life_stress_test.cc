// SPDX-License-Identifier: MIT
//
// Creators, destroyers, readers, threads that come and go, groups, and forks, all at once; then
// nothing may be left. Two seconds, or SLABSCOPE_STRESS_SECONDS (docs/testing.md).

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <random>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/slab/cache/child_fixture.h"

namespace slabscope {
namespace {

using testing::args_with;
using testing::FakeRcu;
using testing::SlabThread;

class CacheLifeStress : public testing::ChildTest {};

constexpr unsigned kNames = 12;
constexpr unsigned kGroups = 3;

// Groups that threads enter, by place; each is made and destroyed by one thread at a time, while
// objects of it may be anybody's.
class SharedGroups {
 public:
  // In a group, or in none, for as long as one lives. The group cannot be destroyed meanwhile.
  class Visit {
   public:
    Visit(SharedGroups& groups, unsigned place) : lock_(groups.locks_[place % kGroups]) {
      slab_group_enter(groups.groups_[place % kGroups]);
    }
    ~Visit() { slab_group_leave(); }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    std::shared_lock<std::shared_mutex> lock_;
  };

  void replace(unsigned place, bool detach) {
    const std::unique_lock lock(locks_[place]);
    slab_group*& group = groups_[place];
    if (group != nullptr) {
      const int left = detach ? slab_group_destroy_detach(group) : slab_group_destroy(group);
      EXPECT_TRUE(left == 0 || left == (detach ? 1 : -EBUSY));
      if (left == -EBUSY)
        return;
    }
    group = slab_group_create(("stress-" + std::to_string(place)).c_str());
  }
  void end() {
    for (slab_group*& group : groups_) {
      EXPECT_EQ(slab_group_destroy(group), 0);
      group = nullptr;
    }
  }

 private:
  std::array<std::shared_mutex, kGroups> locks_;
  std::array<slab_group*, kGroups> groups_{};
};

void replace_groups(SharedGroups& groups, const std::atomic<bool>& done) {
  std::minstd_rand random(77);
  while (!done) {
    groups.replace(static_cast<unsigned>(random() % kGroups), random() % 2 == 0);
    g_groups.release_unused();
    std::this_thread::yield();
  }
}

std::chrono::steady_clock::time_point deadline() {
  const char* seconds = std::getenv("SLABSCOPE_STRESS_SECONDS");
  return std::chrono::steady_clock::now() +
         std::chrono::seconds(seconds == nullptr ? 2 : std::atoi(seconds));
}

// A cache of the kind that belongs to its name; objects of it are marked with their owner's number.
slab_cache_args kind_of(unsigned number) {
  static const auto kConstruct = [](void* object) { *static_cast<uint64_t*>(object) = 0; };
  static const auto kNothing = [](void*) {};
  switch (number % 7) {
    case 1:
      return args_with(0, kConstruct, kNothing);
    case 2:
      return args_with(SLAB_TYPESAFE_BY_RCU, kConstruct, nullptr, FakeRcu::flavor());
    case 3:
    case 4:
      return args_with(SLAB_MERGE);
    case 5:
      return args_with(SLAB_STORE_USER);
    case 6:
      return args_with(SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_POISON);
    default:
      return args_with(0);
  }
}

// Creates, fills, empties and destroys; others may hold the same name, so EEXIST is an answer too.
void live(unsigned seed, SharedGroups& groups, const std::atomic<bool>& done) {
  std::minstd_rand random(seed);
  while (!done) {
    const unsigned number = static_cast<unsigned>(random() % kNames);
    const std::string name = "stress-" + std::to_string(number);
    const slab_cache_args args = kind_of(number);
    slab_cache* cache = slab_cache_create(name.c_str(), 64, &args);
    if (cache == nullptr)
      continue;
    std::array<uint64_t*, 40> objects{};
    unsigned place = 0;
    for (uint64_t*& object : objects) {
      const bool grouped = ++place % 8 < 6;  // some in each group, some in none
      {
        std::optional<SharedGroups::Visit> visit;
        if (grouped)
          visit.emplace(groups, place / 8);
        object = static_cast<uint64_t*>(slab_cache_alloc(cache));
      }
      ASSERT_NE(object, nullptr);
      *object = reinterpret_cast<uintptr_t>(object);
    }
    const bool detach = random() % 3 == 0;
    const bool shared = (args.flags & SLAB_MERGE) != 0;
    if (detach && !shared) {
      EXPECT_EQ(slab_cache_destroy_detach(cache), 1);
    } else if (!shared) {
      EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
    }
    for (uint64_t* object : objects) {
      EXPECT_EQ(*object, reinterpret_cast<uintptr_t>(object));
      *object = 0;
      slab_cache_free(cache, object);
    }
    if (detach && !shared)
      continue;
    // Of those that share, the last one may find what the others have in use; and threads that come
    // and go use the first name.
    int result = slab_cache_destroy(cache);
    while ((shared || number == 0) && result == -EBUSY)
      result = slab_cache_destroy(cache);
    EXPECT_EQ(result, 0);
  }
}

void read_all(const std::atomic<bool>& done) {
  while (!done) {
    slab_cache_for_each(
        [](slab_cache* cache, void*) {
          (void)slab_cache_store(cache, "validate", "1");
          for (const char* name : {"objects", "objects_partial", "slabs", "aliases"}) {
            char text[64];
            const int length = slab_cache_show(cache, name, text, sizeof(text));
            EXPECT_TRUE(length == -ENODEV || (length > 0 && text[length - 1] == '\n'));
          }
          EXPECT_NE(slab_cache_name(cache)[0], '\0') << "the record is somebody else's";
          return 0;
        },
        nullptr);
    slab_cache* cache = slab_cache_find("stress-1");
    if (cache != nullptr) {
      EXPECT_LE(slab_cache_store(cache, "shrink", "1"), 0);
    }
    slab_cache_put(cache);
  }
}

// The child, which is alone, uses whatever there is. Nothing but slab/ (see the forks of the other
// tests).
int child() {
  heap_reset_after_fork();
  const slab_cache_args args{};
  slab_cache* cache = slab_cache_create("of-the-child", 64, &args);
  if (cache == nullptr)
    return 1;
  slab_cache_free(cache, slab_cache_alloc(cache));
  slab_group* group = slab_group_create("of-the-child");
  if (group != nullptr)
    slab_cache_free(cache, testing::allocate_in(group, cache));
  if (slab_cache_destroy(cache) != 0)
    return 2;
  if (group != nullptr && slab_group_destroy(group) != 0)
    return 4;
  return slab_cache_find("of-the-child") == nullptr && g_object_caches.held() == 0 ? 0 : 3;
}

void fork_all_the_time(const std::atomic<bool>& done) {
  while (!done) {
    heap_lock_for_fork();
    const pid_t pid = fork();
    if (pid == 0)
      _exit(child());
    heap_unlock_after_fork();
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
    // A thread that comes and goes, with lists of caches that may be gone by then.
    testing::in_thread([] {
      slab_cache* cache = slab_cache_find("stress-0");
      if (cache != nullptr)
        slab_cache_free(cache, slab_cache_alloc(cache));
      slab_cache_put(cache);
    });
  }
}

TEST_F(CacheLifeStress, NothingIsLeftOfCreatorsReadersThreadsAndForks) {
  std::atomic<bool> done{false};
  SharedGroups groups;
  for (unsigned place = 0; place < kGroups; ++place)
    groups.replace(place, false);
  const uint64_t slabs_before = stat_get(g_heap_stats->mapped_slab_bytes);
  {
    std::vector<SlabThread> threads;
    for (unsigned i = 0; i < 3; ++i)
      threads.emplace_back([&done, &groups, i] { live(i + 1, groups, done); });
    threads.emplace_back([&done, &groups] { replace_groups(groups, done); });
    threads.emplace_back([&done] { read_all(done); });
    threads.emplace_back([&done] { fork_all_the_time(done); });
    std::this_thread::sleep_until(deadline());  // how long, not what for
    done = true;
  }
  groups.end();
  g_groups.release_unused();
  g_object_caches.settle();
  EXPECT_EQ(g_cache_children.in_use(), 0U) << "children are left";
  EXPECT_EQ(g_groups.leaving(), 0U) << "groups are left";
  unsigned caches = 0;
  unsigned children = 0;
  for (unsigned id = Config::kFirstObjectId; id < g_caches.limit(); ++id) {
    const ObjectPair* pair = g_caches.object_pair(id);
    caches += pair != nullptr && pair->pair_kind == PairKind::kObject ? 1U : 0U;
    children += pair != nullptr && pair->pair_kind == PairKind::kCacheChild ? 1U : 0U;
  }
  EXPECT_LE(caches, 200U) << "records grow";
  EXPECT_LE(children, 600U) << "records grow";
  decay_everything();
  EXPECT_LE(stat_get(g_heap_stats->mapped_slab_bytes), slabs_before + (4U << 20));
}

}  // namespace
}  // namespace slabscope
