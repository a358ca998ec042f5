// SPDX-License-Identifier: MIT
//
// sole_thread: words that several threads may change, at a plain word's price while there is one.
//
// A locked instruction is 5 ns and waits for every load and store before it, so that two cache
// misses around it cost twice; a plain one is free. While libc says that the process has one thread
// (__libc_single_threaded), the same instruction runs without the lock prefix. It is still whole
// for a signal handler. Threads by a raw clone() that libc does not know of are not seen, as in
// glibc's own malloc, which leaves out its lock for the same reason.
//
// Memory orders: what one thread wrote without a lock is before what threads that it creates later
// do, as creation orders them.

#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

#include "slab/base/compiler.h"

extern "C" char __libc_single_threaded SC_WEAK;

namespace slabscope {

SC_INLINE bool sole_thread() {
#if defined(__x86_64__)
  return &__libc_single_threaded != nullptr && __libc_single_threaded != 0;
#else
  return false;
#endif
}

SC_INLINE void add_relaxed(uint64_t& word, uint64_t value) {
#if defined(__x86_64__)
  if (sole_thread()) {
    __asm__("addq %1, %0" : "+m"(word) : "er"(value) : "cc");
    return;
  }
#endif
  __atomic_fetch_add(&word, value, __ATOMIC_RELAXED);
}

// As word.compare_exchange_strong(expected, wanted, order), of an order that is no weaker than
// acquire or release.
template <typename Word>
SC_INLINE bool exchange_if(std::atomic<Word>& word, Word& expected,
                           std::type_identity_t<Word> wanted, std::memory_order order) {
#if defined(__x86_64__)
  if (sole_thread()) {
    bool done = false;
    __asm__("cmpxchg %3, %1" : "=@cce"(done), "+m"(word), "+a"(expected) : "r"(wanted) : "memory");
    return done;
  }
#endif
  // Said, as the library's own way to it is a call in code that is built for size.
  const auto failed =
      order == std::memory_order_release ? std::memory_order_relaxed : std::memory_order_acquire;
  return word.compare_exchange_strong(expected, wanted, order, failed);
}

// Sets `word` to 0 and returns what it was; acquires and releases.
SC_INLINE uint32_t take_word(uint32_t& word) {
#if defined(__x86_64__)
  if (sole_thread()) {
    uint32_t was = word;
    bool done = false;
    do {
      __asm__("cmpxchgl %3, %1"
              : "=@cce"(done), "+m"(word), "+a"(was)
              : "r"(uint32_t{0})
              : "memory");
    } while (SC_UNLIKELY(!done));  // a signal handler took it
    return was;
  }
#endif
  return __atomic_exchange_n(&word, 0, __ATOMIC_ACQ_REL);
}

}  // namespace slabscope
