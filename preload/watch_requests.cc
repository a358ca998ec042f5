// SPDX-License-Identifier: MIT
//
// What tools ask of the living process, through the mailbox in its scope file.
//
//   slabscope ctl ─► Mailbox::request ─► g_bell ─► a thread's next slow path ─► act ─► reply
//
// Whoever may write the file may write anything into it: a request is copied, then looked at, and
// done if it makes sense; nothing else of it is used. One thread serves a request.

#include "preload/watch.h"
#include "slab/base/clock.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/thread_registry.h"
#include "slab/heap.h"

namespace slabscope {
namespace {

// ---- what can be asked ----------------------------------------------------------------------

// Returns the interval before.
uint64_t switch_tracking(uint32_t interval) {
  abi::Header& header = *g_watch.file.header();
  const abi::TrackMode mode = interval == 0   ? abi::TrackMode::kOff
                              : interval == 1 ? abi::TrackMode::kAll
                                              : abi::TrackMode::kSampled;
  const uint64_t before = sampling();
  if (before == interval)
    return before;
  if (mode == abi::TrackMode::kAll)
    g_watch.depot.widen();
  __atomic_fetch_add(&header.track_switches, 1, __ATOMIC_RELAXED);
  __atomic_store_n(&header.track_mode, static_cast<uint32_t>(mode), __ATOMIC_RELAXED);
  __atomic_store_n(&header.sample_interval, interval, __ATOMIC_RELAXED);
  set_sampling(interval);
  watch_event(abi::EventKind::kTrackingSwitched, 0, interval, before);
  return before;
}

uint64_t slabs_in_use() {
  uint64_t slabs = 0;
  for (unsigned id = Config::kFirstMallocId; id < g_caches.limit(); ++id) {
    if (g_caches.ready(id))
      slabs += stat_get(g_caches.stats(id).slabs);
  }
  return slabs;
}

// Returns the slabs that became free runs.
uint64_t shrink() {
  const uint64_t before = slabs_in_use();
  request_flush();  // other threads at their next visit
  ThreadCache* mine = ThreadCache::current();
  if (mine != nullptr)
    mine->heed_requests();
  g_threads.flush_ended(coarse_monotonic_ms(), 0);
  (void)g_caches.shrink_all();
  const uint64_t now = slabs_in_use();
  return before > now ? before - now : 0;
}

// Returns the bytes that the kernel got.
uint64_t purge() {
  (void)shrink();
  return trim();
}

// ---- the mailbox ----------------------------------------------------------------------------

struct Answer {
  abi::ReplyStatus status = abi::ReplyStatus::kDone;
  uint64_t value = 0;
};

Answer act(const abi::Request& request) {
  switch (static_cast<abi::Action>(request.action)) {
    case abi::Action::kTrack:
      if (request.argument > UINT32_MAX)
        break;
      return {.value = switch_tracking(static_cast<uint32_t>(request.argument))};
    case abi::Action::kShrink: {
      const uint64_t slabs = shrink();
      watch_event(abi::EventKind::kCacheShrunk, 0, slabs);
      return {.value = slabs};
    }
    case abi::Action::kPurge: {
      const uint64_t bytes = purge();
      watch_event(abi::EventKind::kMemoryReleased, 0, bytes);
      return {.value = bytes};
    }
    case abi::Action::kNone:
      break;
  }
  watch_event(abi::EventKind::kRequestRefused, 0, request.action);
  return {.status = abi::ReplyStatus::kRefused};
}

uint32_t asked(const abi::Mailbox& box) {
  return __atomic_load_n(&box.request.sequence, __ATOMIC_ACQUIRE);
}

void serve() {
  abi::Mailbox& box = *g_watch.file.mailbox();
  uint32_t heard = __atomic_load_n(&g_bell.heard, __ATOMIC_RELAXED);
  const uint32_t sequence = asked(box);
  if (sequence == heard || !__atomic_compare_exchange_n(&g_bell.heard, &heard, sequence, false,
                                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    return;
  }
  abi::Request request{};
  __builtin_memcpy(&request, &box.request, sizeof(request));
  abi::ProcessCounters& counters = g_watch.file.counters();
  if (request.check != ~sequence) {
    stat_add(counters.requests_refused, 1);  // half written, or not by a tool
    return;
  }
  const Answer answer = act(request);
  stat_add(answer.status == abi::ReplyStatus::kDone ? counters.requests_served
                                                    : counters.requests_refused,
           1);
  box.reply.status = static_cast<uint32_t>(answer.status);
  box.reply.value = answer.value;
  box.reply.monotonic_ns = monotonic_ns();
  __atomic_store_n(&box.reply.sequence, sequence, __ATOMIC_RELEASE);
}

}  // namespace

void watch_install_requests(Hooks& hooks) {
  hooks.rung = serve;
  watch_forget_requests();
  __atomic_store_n(&g_bell.word, &g_watch.file.mailbox()->request.sequence, __ATOMIC_RELEASE);
}

void watch_forget_requests() {
  __atomic_store_n(&g_bell.heard, asked(*g_watch.file.mailbox()), __ATOMIC_RELAXED);
}

}  // namespace slabscope
