// SPDX-License-Identifier: MIT

#include "slab/base/active_count.h"

#include <linux/futex.h>

#include <climits>

#include "slab/base/sys.h"

namespace slabscope {

bool ActiveCount::enter() {
  uint32_t word = word_.load(std::memory_order_relaxed);
  do {
    if ((word & kRemoved) != 0)
      return false;
  } while (!word_.compare_exchange_weak(word, word + 1, std::memory_order_acquire,
                                        std::memory_order_relaxed));
  return true;
}

void ActiveCount::leave() {
  // Release: pairs with the remover's acquire, so that what was read inside was read before.
  if (word_.fetch_sub(1, std::memory_order_release) == (kRemoved | 1))
    sys::raw(SYS_futex, sys::arg(&word_), FUTEX_WAKE_PRIVATE, INT_MAX);
}

void ActiveCount::remove_and_wait() {
  uint32_t word = word_.fetch_or(kRemoved, std::memory_order_acq_rel) | kRemoved;
  while (word != kRemoved) {
    sys::raw(SYS_futex, sys::arg(&word_), FUTEX_WAIT_PRIVATE, word);
    word = word_.load(std::memory_order_acquire);
  }
}

void ActiveCount::reset_after_fork() {
  word_.store(word_.load(std::memory_order_relaxed) & kRemoved, std::memory_order_relaxed);
}

}  // namespace slabscope
