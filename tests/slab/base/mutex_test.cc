// SPDX-License-Identifier: MIT

#include "slab/base/mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

TEST(Mutex, TryLockFailsWhileHeldAndSucceedsAfterwards) {
  Mutex mutex;
  ASSERT_TRUE(mutex.try_lock());
  EXPECT_FALSE(mutex.try_lock());
  mutex.unlock();
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

TEST(Mutex, ScopedLockLetsGoAtTheEndOfItsScope) {
  Mutex mutex;
  {
    MutexLock lock(mutex);
    EXPECT_FALSE(mutex.try_lock());
  }
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
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
  std::atomic<int> arrived{0};
  int passed = 0;
  mutex.lock();
  std::vector<std::thread> threads;
  for (int i = 0; i < kSleepers; ++i) {
    threads.emplace_back([&] {
      ++arrived;
      MutexLock lock(mutex);
      ++passed;
    });
  }
  while (arrived.load() < kSleepers)
    std::this_thread::yield();
  // Held long enough that most of them are past the spinning.
  for (int i = 0; i < 2000; ++i)
    std::this_thread::yield();
  EXPECT_EQ(passed, 0);
  mutex.unlock();
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(passed, kSleepers);
}

TEST(Mutex, IsFreeInTheChildAfterAReset) {
  Mutex mutex;
  mutex.lock();
  EXPECT_EQ(testing::in_child([&]() SC_NO_THREAD_ANALYSIS {
              if (mutex.try_lock())
                return 1;
              mutex.reset_after_fork();
              return mutex.try_lock() ? 0 : 2;
            }),
            0);
  EXPECT_FALSE(mutex.try_lock());
  mutex.unlock();
}

}  // namespace
}  // namespace slabscope
