// SPDX-License-Identifier: MIT

#include "slab/base/mutex.h"

#include <linux/futex.h>

#include "slab/base/stats.h"
#include "slab/base/sys.h"

namespace slabscope {

void Mutex::lock_slow() {
  stat_add(g_heap_stats->lock_waits, 1);
  // A holder is in for tens of nanoseconds to a page fault; spinning that long spares two system
  // calls and a context switch. 100 rounds is about a microsecond.
  for (int i = 0; i < 100; ++i) {
    uint32_t expected = kFree;
    if (state_.load(std::memory_order_relaxed) == kFree &&
        state_.compare_exchange_weak(expected, kHeld, std::memory_order_acquire,
                                     std::memory_order_relaxed)) {
      return;
    }
    pause_cpu();
  }
  while (state_.exchange(kContended, std::memory_order_acquire) != kFree) {
    stat_add(g_heap_stats->lock_sleeps, 1);
    sys::raw(SYS_futex, sys::arg(&state_), FUTEX_WAIT_PRIVATE, kContended);
  }
}

void Mutex::wake_slow() {
  sys::raw(SYS_futex, sys::arg(&state_), FUTEX_WAKE_PRIVATE, 1);
}

}  // namespace slabscope
