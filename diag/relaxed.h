// SPDX-License-Identifier: MIT
//
// relaxed: counters in the scope file that several threads add to.
//
// A locked add is 5 ns, a plain one is free: while libc says that the process has one thread
// (__libc_single_threaded), one instruction adds without the lock prefix. It is still whole for a
// signal handler, and a raw clone() that libc does not know of can at worst spoil a number.

#pragma once

#include <atomic>
#include <cstdint>

#include "slab/base/compiler.h"

extern "C" char __libc_single_threaded SC_WEAK;

namespace slabscope::diag {

SC_INLINE bool single_threaded() {
  return &__libc_single_threaded != nullptr && __libc_single_threaded != 0;
}

SC_INLINE void add_relaxed(uint64_t& word, uint64_t value) {
#if defined(__x86_64__)
  if (single_threaded()) {
    __asm__("addq %1, %0" : "+m"(word) : "er"(value) : "cc");
    return;
  }
#endif
  std::atomic_ref(word).fetch_add(value, std::memory_order_relaxed);
}

}  // namespace slabscope::diag
