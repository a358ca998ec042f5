// SPDX-License-Identifier: MIT

#include "slab/base/mutex.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "slab/base/stats.h"
#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

// Attempts whose outcome is the test: the compiler's analysis cannot follow them.
bool try_take(Mutex& mutex) SC_NO_THREAD_ANALYSIS {
  return mutex.try_lock();
}
void let_go(Mutex& mutex) SC_NO_THREAD_ANALYSIS {
  mutex.unlock();
}

TEST(Mutex, TryLockFailsWhileHeldAndSucceedsAfterwards) {
  Mutex mutex;
  ASSERT_TRUE(try_take(mutex));
  EXPECT_FALSE(try_take(mutex));
  let_go(mutex);
  EXPECT_TRUE(try_take(mutex));
  let_go(mutex);
}

TEST(Mutex, ScopedLockLetsGoAtTheEndOfItsScope) {
  Mutex mutex;
  {
    MutexLock lock(mutex);
    EXPECT_FALSE(try_take(mutex));
  }
  EXPECT_TRUE(try_take(mutex));
  let_go(mutex);
}

TEST(Mutex, CountsWhoFindsItHeldAndWhoSleeps) {
  Mutex mutex;
  const uint64_t waits = stat_get(g_heap_stats->lock_waits);
  const uint64_t sleeps = stat_get(g_heap_stats->lock_sleeps);
  for (int i = 0; i < 100; ++i)
    MutexLock lock(mutex);
  EXPECT_EQ(stat_get(g_heap_stats->lock_waits), waits);
  ASSERT_TRUE(try_take(mutex));
  std::thread other([&] { MutexLock lock(mutex); });
  while (stat_get(g_heap_stats->lock_sleeps) == sleeps)
    std::this_thread::yield();
  let_go(mutex);
  other.join();
  EXPECT_EQ(stat_get(g_heap_stats->lock_waits), waits + 1);
}

TEST(Mutex, KeepsAPlainCounterExactAmongThreads) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 20000;
  Mutex mutex;
  long counter = 0;
  {
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < kRounds; ++round) {
          MutexLock lock(mutex);
          ++counter;
        }
      });
    }
    for (std::thread& thread : threads)
      thread.join();
  }
  EXPECT_EQ(counter, long{kThreads} * kRounds);
}

TEST(Mutex, SleepersAreWokenOneByOne) {
  constexpr int kSleepers = 6;
  Mutex mutex;
  const uint64_t sleeps = stat_get(g_heap_stats->lock_sleeps);
  int passed = 0;
  ASSERT_TRUE(try_take(mutex));
  std::vector<std::thread> threads;
  for (int i = 0; i < kSleepers; ++i) {
    threads.emplace_back([&] {
      MutexLock lock(mutex);
      ++passed;
    });
  }
  while (stat_get(g_heap_stats->lock_sleeps) < sleeps + kSleepers)
    std::this_thread::yield();
  EXPECT_EQ(passed, 0);
  let_go(mutex);
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(passed, kSleepers);
}

TEST(Mutex, IsFreeInTheChildAfterAReset) {
  Mutex mutex;
  ASSERT_TRUE(try_take(mutex));
  EXPECT_EQ(testing::in_child([&] {
              if (try_take(mutex))
                return 1;
              mutex.reset_after_fork();
              return try_take(mutex) ? 0 : 2;
            }),
            0);
  EXPECT_FALSE(try_take(mutex));
  let_go(mutex);
}

}  // namespace
}  // namespace slabscope
