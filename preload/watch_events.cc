// SPDX-License-Identifier: MIT
//
// What is written into the ring of events, beside the states of programs' caches
// (watch_caches.cc).

#include <pthread.h>

#include "preload/watch.h"
#include "slab/base/clock.h"
#include "slab/base/sole_thread.h"

namespace slabscope {
namespace {

// A program that runs out of something tends to do so again and again: once a second is told.
constexpr uint64_t kLeastGapNs = 1'000'000'000;
constinit uint64_t g_out_of_memory_ns = 0;
constinit uint64_t g_threads_full_ns = 0;

bool is_news(uint64_t& last_ns) {
  const uint64_t now = coarse_monotonic_ns();
  uint64_t last = __atomic_load_n(&last_ns, __ATOMIC_RELAXED);
  return (last == 0 || now - last >= kLeastGapNs) &&
         __atomic_compare_exchange_n(&last_ns, &last, now, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED);
}

void out_of_memory(unsigned cache, uint64_t size) {
  if (!is_news(g_out_of_memory_ns))
    return;
  watch_event(abi::EventKind::kOutOfMemory, cache, size,
              stat_get(g_watch.file.counters().failures_no_memory));
}

void heap_event(const HeapEvent& event) {
  switch (event.kind) {
    case HeapEvent::Kind::kShrunk:
      watch_event(abi::EventKind::kCacheShrunk, event.cache, event.value);
      break;
    case HeapEvent::Kind::kOutOfMemory:
      out_of_memory(event.cache, event.value);
      break;
    case HeapEvent::Kind::kThreadsFull:
      if (is_news(g_threads_full_ns)) {
        watch_event(abi::EventKind::kThreadsFull, 0,
                    stat_get(g_watch.file.counters().dropped_threads));
      }
      break;
    case HeapEvent::Kind::kMisuse:
      g_watch.events.add_if_free({.kind = abi::EventKind::kMisuse,
                                  .tid = own_tid(),
                                  .name = event.what,
                                  .value = event.value});
      break;
  }
}

}  // namespace

// libc writes it into a mutex that wants to know its owner. (The thread's name can be had only by
// asking; tools read it from /proc.)
uint32_t own_tid() {
  pthread_mutex_t mutex = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
  if (pthread_mutex_lock(&mutex) != 0)
    return 0;
  const auto tid = static_cast<uint32_t>(mutex.__data.__owner);
  pthread_mutex_unlock(&mutex);
  return tid;
}

void watch_event(abi::EventKind kind, unsigned cache, uint64_t value, uint64_t other_value) {
  diag::Event event{
      .kind = kind, .tid = own_tid(), .cache = cache, .value = value, .other_value = other_value};
  const abi::CacheRecord& record = g_watch.file.caches()[cache];
  char name[sizeof(record.name)];
  if (cache != 0 && g_watch.file.ensure(&record, sizeof(record))) {
    event.generation = record.generation;
    __builtin_memcpy(name, record.name, sizeof(name));  // outsiders may write there
    name[sizeof(name) - 1] = '\0';
    event.name = name;
  }
  g_watch.events.add(event);
}

void watch_install_events(Hooks& hooks) {
  hooks.event = heap_event;
}

}  // namespace slabscope
