// SPDX-License-Identifier: MIT
//
// Mutex: a futex lock that works before libc does and never allocates.
//
//   0 free ──lock──► 1 held ──contended──► 2 held, somebody sleeps in futex(2)
//   ▲                  │                      │
//   └─────unlock───────┴──unlock + wake one───┘
//
// Constant-initialised, four bytes, not recursive. A holder never blocks on anything but memory
// and system calls that cannot call back, so waiting is short. After fork() the child's only
// thread resets every lock that the prepare handler took. Lock order: docs/design.md#lock-order.

#pragma once

#include <atomic>
#include <cstdint>

#include "slab/base/compiler.h"
#include "slab/base/sole_thread.h"

namespace slabscope {

class SC_CAPABILITY("mutex") Mutex {
 public:
  constexpr Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  SC_INLINE void lock() SC_ACQUIRE() {
    uint32_t expected = kFree;
    if (SC_UNLIKELY(!exchange_if(state_, expected, kHeld, std::memory_order_acquire)))
      lock_slow();
  }
  SC_INLINE bool try_lock() SC_TRY_ACQUIRE(true) {
    uint32_t expected = kFree;
    return exchange_if(state_, expected, kHeld, std::memory_order_acquire);
  }
  SC_INLINE void unlock() SC_RELEASE() {
    if (sole_thread()) {
      state_.store(kFree, std::memory_order_relaxed);  // nobody waits
    } else if (SC_UNLIKELY(state_.exchange(kFree, std::memory_order_release) == kContended)) {
      wake_slow();
    }
  }
  // In the child of a fork, where the threads that might have held or awaited it do not exist.
  void reset_after_fork() SC_NO_THREAD_ANALYSIS { state_.store(kFree, std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kHeld = 1;
  static constexpr uint32_t kContended = 2;

  SC_NOINLINE void lock_slow();
  SC_NOINLINE void wake_slow();

  std::atomic<uint32_t> state_{kFree};
};

class SC_SCOPED_CAPABILITY MutexLock {
 public:
  SC_INLINE explicit MutexLock(Mutex& mutex) SC_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  SC_INLINE ~MutexLock() SC_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace slabscope
