// SPDX-License-Identifier: MIT
//
// When to look for a new high-water mark, and what was in use then (docs/decisions/0014).
//
//   tick ─► slabs and large blocks together above the last peak?     two loads; nearly always no
//              └─► bytes out of slabs, cache by cache, a 64th above it?    one load a cache
//                     └─► exact counts of all threads ─► PeakRecorder
//
// Called at slow paths without a lock. About a fiftieth of one thread's time at most goes into it:
// by the counters there are to add up, not by the clock, which also runs while others do.

#include "preload/watch.h"
#include "slab/base/clock.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/thread_registry.h"

namespace slabscope {
namespace {

constexpr uint64_t kLeastPeak = 1 << 20;  // bytes; a small program has nothing to remember
constexpr unsigned kStepShift = 6;        // a peak counts when it is a 64th higher than the last
constexpr uint64_t kRestNsPerPair =
    100;                             // to the next record: 50 times what a pair of counters takes
constexpr uint32_t kAgainMs = 1000;  // a look that found less than it seemed is tried again

// What the last look left behind. Raced over without harm: each is a hint.
struct Looked {
  uint64_t mapped = 0;
  uint64_t out = 0;  // do not count again until more than that is out of slabs
  uint64_t not_before_ns = 0;
  uint32_t ms = 0;
};
constinit Looked g_looked{};

uint64_t load(const uint64_t& word) {
  return __atomic_load_n(&word, __ATOMIC_RELAXED);
}
void store(uint64_t& word, uint64_t value) {
  __atomic_store_n(&word, value, __ATOMIC_RELAXED);
}

uint64_t wanted() {
  const uint64_t highest = g_watch.peak.highest();
  return highest < kLeastPeak ? kLeastPeak : highest + (highest >> kStepShift);
}

template <typename Visit>
void for_each_cache(Visit visit) {
  for (unsigned id = Config::kFirstMallocId; id < g_caches.limit(); ++id) {
    if (id != Config::kOwnId && g_caches.ready(id))
      visit(id);
  }
}

// In use, or on a thread's list.
uint64_t bytes_out() {
  uint64_t bytes = 0;
  for_each_cache([&bytes](unsigned id) {
    const CacheStats& stats = g_caches.stats(id);
    bytes += id == Config::kLargeId
                 ? stat_get(stats.live_bytes)
                 : stat_get(stats.objects_out) * g_caches.plain(id)->object_size();
  });
  return bytes;
}

bool record() {
  if (!g_watch.peak.begin())
    return false;
  for_each_cache([](unsigned id) {
    const Remaining left = remaining_in(id);
    // While others allocate and free, a sum may be off by what they do, also below zero.
    if (static_cast<int64_t>(left.objects) <= 0 || static_cast<int64_t>(left.bytes) <= 0)
      return;
    const abi::CacheRecord& record = g_watch.file.caches()[id];
    const bool seen = g_watch.file.ensure(&record, sizeof(record));
    g_watch.peak.add({.cache = id,
                      .generation = seen ? record.generation : 0,
                      .objects = left.objects,
                      .bytes = left.bytes});
  });
  return g_watch.peak.finish();
}

}  // namespace

void watch_peak(uint32_t now_ms) {
  const uint64_t mapped = heap_bytes_in_use();
  const uint64_t least = wanted();
  const bool new_ms = __atomic_load_n(&g_looked.ms, __ATOMIC_RELAXED) != now_ms;
  if (mapped < least || (mapped == load(g_looked.mapped) && !new_ms))
    return;
  const bool again =
      now_ms - __atomic_exchange_n(&g_looked.ms, now_ms, __ATOMIC_RELAXED) >= kAgainMs;
  store(g_looked.mapped, mapped);
  const uint64_t out = bytes_out();
  if (out < least || (out < load(g_looked.out) && !again))
    return;
  if (monotonic_ns() < load(g_looked.not_before_ns))
    return;
  store(g_looked.out, record() ? 0 : out + (out >> kStepShift));
  const uint64_t pairs = uint64_t{g_threads.slot_count()} * g_caches.limit();
  store(g_looked.not_before_ns, monotonic_ns() + pairs * kRestNsPerPair);
}

void watch_last_peak() {
  if (bytes_out() >= kLeastPeak)
    (void)record();
}

void watch_forget_peak() {
  g_looked = {};
  g_watch.peak.forget_after_fork();
}

}  // namespace slabscope
