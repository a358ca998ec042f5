// SPDX-License-Identifier: MIT

#include "slab/cache/decay.h"

#include "slab/base/clock.h"
#include "slab/base/config.h"
#include "slab/base/due.h"
#include "slab/base/sys.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/group.h"
#include "slab/cache/large.h"
#include "slab/cache/thread_registry.h"
#include "slab/pages/page_heap.h"

namespace slabscope {
namespace {

constexpr uint32_t kRoundsPerDecay = 8;  // looks for old runs within one decay time

constinit uint32_t g_decay_ms = Config::kDecayMs;
constinit uint32_t g_last_round_ms = 0;
constinit uint32_t g_rounds = 0;

// True for the one thread whose round it is.
bool claim_round(uint32_t now) {
  uint32_t last = __atomic_load_n(&g_last_round_ms, __ATOMIC_RELAXED);
  if (!is_due(now, last, g_decay_ms / kRoundsPerDecay))
    return false;
  return __atomic_compare_exchange_n(&g_last_round_ms, &last, now, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED);
}

}  // namespace

uint32_t decay_ms() {
  return g_decay_ms;
}
void set_decay_ms(uint32_t ms) {
  g_decay_ms = ms;
}

uint32_t decay_tick() {
  const uint32_t now = coarse_monotonic_ms();
  g_page_heap.set_now(now);
  if (!claim_round(now))
    return now;
  // Empty slabs become free runs once a decay time, and these wait for theirs.
  if (__atomic_add_fetch(&g_rounds, 1, __ATOMIC_RELAXED) % kRoundsPerDecay == 0) {
    g_caches.shrink_all();
    g_groups.release_unused();
  }
  g_threads.flush_ended(now, g_decay_ms);
  large_decay(now, g_decay_ms);
  g_page_heap.purge(now, g_decay_ms);
  return now;
}

uint64_t decay_everything() {
  const uint32_t now = coarse_monotonic_ms();
  g_page_heap.set_now(now);
  g_threads.flush_ended(now, 0);
  g_caches.shrink_all();
  g_groups.release_unused();
  return large_decay(now, 0) + g_page_heap.purge(now, 0);
}

}  // namespace slabscope
