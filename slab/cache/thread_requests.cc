// SPDX-License-Identifier: MIT
//
// What a thread does at its visits to the slow path beside serving: look at the clock now and then,
// give back what it does not use, count large blocks, and do what is asked of all threads.
//
//   request_drain()    ─┐
//   request_flush()    ─┼─► g_requests ─► a thread's next visit ─► heed_requests()
//   request_sampling() ─┘
//
// Nobody waits for a thread, and no thread's lists are touched by another.

#include "slab/cache/cache_table.h"
#include "slab/cache/decay.h"
#include "slab/cache/object_cache.h"
#include "slab/cache/thread_cache.h"
#include "slab/pages/page_heap.h"

namespace slabscope {
namespace {

// Large blocks that a thread takes without freeing any, and without a look at the clock.
constexpr uint64_t kLargePerTick = 4 << 20;

constinit std::atomic<uint32_t> g_requests{0};  // of any kind
constinit std::atomic<uint32_t> g_drain_requests{0};
constinit std::atomic<uint32_t> g_flush_requests{0};

void ask() {
  g_requests.fetch_add(1, std::memory_order_seq_cst);
}

}  // namespace

// ---- requests -------------------------------------------------------------------------------

void request_drain() {
  g_drain_requests.fetch_add(1, std::memory_order_seq_cst);
  ask();
}

void request_flush() {
  g_flush_requests.fetch_add(1, std::memory_order_seq_cst);
  ask();
}

void request_sampling() {
  ask();
}

void ThreadCache::heed_if_asked() {
  if (SC_UNLIKELY(heeded_ != g_requests.load(std::memory_order_relaxed)))
    heed_requests();
}

void ThreadCache::heed_requests() {
  heeded_ = g_requests.load(std::memory_order_acquire);
  drain_requested();
  adapt_sampling();
  const uint32_t flushes = g_flush_requests.load(std::memory_order_acquire);
  if (flushes != flushes_) {
    flushes_ = flushes;
    flush_all();
  }
}

// Some cache is going away: what this thread holds of it goes back.
void ThreadCache::drain_requested() {
  if (drains_ == g_drain_requests.load(std::memory_order_relaxed))
    return;
  drains_ = g_drain_requests.load(std::memory_order_acquire);
  for (unsigned id = Config::kFirstObjectId; id < id_limit(); ++id) {
    const ObjectPair* pair = g_caches.object_pair(id);
    if (pair != nullptr && pair->draining.load(std::memory_order_acquire))
      drain(id);
  }
}

// ---- large blocks ---------------------------------------------------------------------------

void ThreadCache::count_large_alloc(unsigned owner, size_t size) {
  count_up(counters_of(bin(owner))->allocs);
  large_taken_ += size;
  if (large_taken_ >= kLargePerTick)
    visit();
}

void ThreadCache::count_large_free(unsigned owner) {
  large_taken_ = 0;
  visit();
  count_up(counters_of(bin(owner))->frees);
}

// ---- time -----------------------------------------------------------------------------------

// The heartbeat: every kVisitsPerTick visits a look at the clock, and what is due then.
void ThreadCache::visit() {
  heed_if_asked();
  if (SC_UNLIKELY(g_bell.rung()))
    g_hooks.rung();
  ++visits_;
  if (SC_LIKELY(visits_ < Config::kVisitsPerTick && large_taken_ < kLargePerTick))
    return;
  stat_add(g_heap_stats->door_visits, visits_);
  visits_ = 0;
  large_taken_ = 0;
  const uint32_t now_ms = decay_tick();
  g_hooks.tick(now_ms);
  if (SC_UNLIKELY(thinning_ != 0))
    relax_sampling(now_ms);
  if (now_ms - last_scan_ms_ < decay_ms() / 2)
    return;
  last_scan_ms_ = now_ms;
  flush_lists();
  g_page_heap.purge(now_ms, decay_ms());  // what that made free runs, above the bound
}

}  // namespace slabscope
