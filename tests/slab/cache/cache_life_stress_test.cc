// SPDX-License-Identifier: MIT
//
// Creators, destroyers, readers, threads that come and go, and forks, all at once; then nothing may
// be left. Two seconds, or SLABSCOPE_STRESS_SECONDS (docs/testing.md).

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/slab/cache/life_fixture.h"

namespace slabscope {
namespace {

using testing::args_with;
using testing::FakeRcu;
using testing::SlabThread;

class CacheLifeStress : public testing::LifeTest {};

constexpr unsigned kNames = 12;

std::chrono::steady_clock::time_point deadline() {
  const char* seconds = std::getenv("SLABSCOPE_STRESS_SECONDS");
  return std::chrono::steady_clock::now() +
         std::chrono::seconds(seconds == nullptr ? 2 : std::atoi(seconds));
}

// A cache of the kind that belongs to its name; objects of it are marked with their owner's number.
slab_cache_args kind_of(unsigned number) {
  static const auto construct = [](void* object) { *static_cast<uint64_t*>(object) = 0; };
  static const auto nothing = [](void*) {};
  switch (number % 6) {
    case 1:
      return args_with(0, construct, nothing);
    case 2:
      return args_with(SLAB_TYPESAFE_BY_RCU, construct, nullptr, FakeRcu::flavor());
    case 3:
    case 4:
      return args_with(SLAB_MERGE);
    case 5:
      return args_with(SLAB_STORE_USER);
    default:
      return args_with(0);
  }
}

// Creates, fills, empties and destroys; others may hold the same name, so EEXIST is an answer too.
void live(unsigned seed, const std::atomic<bool>& done) {
  std::minstd_rand random(seed);
  while (!done) {
    const unsigned number = static_cast<unsigned>(random() % kNames);
    const std::string name = "stress-" + std::to_string(number);
    const slab_cache_args args = kind_of(number);
    slab_cache* cache = slab_cache_create(name.c_str(), 64, &args);
    if (cache == nullptr)
      continue;
    std::array<uint64_t*, 40> objects{};
    for (uint64_t*& object : objects) {
      object = static_cast<uint64_t*>(slab_cache_alloc(cache));
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
  if (slab_cache_destroy(cache) != 0)
    return 2;
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
  const uint64_t slabs_before = stat_get(g_heap_stats->mapped_slab_bytes);
  {
    std::vector<SlabThread> threads;
    for (unsigned i = 0; i < 3; ++i)
      threads.emplace_back([&done, i] { live(i + 1, done); });
    threads.emplace_back([&done] { read_all(done); });
    threads.emplace_back([&done] { fork_all_the_time(done); });
    std::this_thread::sleep_until(deadline());  // how long, not what for
    done = true;
  }
  g_object_caches.settle();
  EXPECT_LE(g_caches.limit(), Config::kFirstObjectId + 200U) << "ids grow";
  decay_everything();
  EXPECT_LE(stat_get(g_heap_stats->mapped_slab_bytes), slabs_before + (4U << 20));
}

}  // namespace
}  // namespace slabscope
