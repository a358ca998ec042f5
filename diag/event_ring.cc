// SPDX-License-Identifier: MIT

#include "diag/event_ring.h"

#include <atomic>
#include <cstddef>

#include "diag/text.h"
#include "slab/base/clock.h"
#include "slab/base/sole_thread.h"

namespace slabscope::diag {

// The counters of the kinds are one array, in the order of the kinds.
static_assert(offsetof(abi::ProcessCounters, events_misuse) -
                  offsetof(abi::ProcessCounters, events_cache_created) ==
              (abi::kLastEventKind - 1) * sizeof(uint64_t));

void EventRing::count(abi::EventKind kind) {
  if (file_ == nullptr || !file_->ready() || kind == abi::EventKind::kNone)
    return;
  uint64_t* first = &file_->counters().events_cache_created;
  add_relaxed(first[static_cast<uint32_t>(kind) - 1], 1);
}

void EventRing::add_if_free(const Event& event) {
  count(event.kind);
  if (!mutex_.try_lock())
    return;
  write(event);
  mutex_.unlock();
}

void EventRing::write(const Event& event) {
  if (file_ == nullptr || !file_->ready())
    return;
  abi::EventRecord& record = file_->events()[newest_ % abi::kMaxEvents];
  if (!file_->ensure(&record, sizeof record)) {
    add_relaxed(file_->counters().dropped_events, 1);
    return;
  }
  const uint64_t number = ++newest_;
  std::atomic_ref sequence(record.sequence);
  // Acquire: nothing of the new record is seen with the old number.
  (void)sequence.exchange(0, std::memory_order_acquire);
  record.kind = static_cast<uint32_t>(event.kind);
  record.tid = event.tid;
  record.monotonic_ns = monotonic_ns();
  record.realtime_ns = realtime_ns();
  record.cache = event.cache;
  record.generation = event.generation;
  record.value = event.value;
  record.other_value = event.other_value;
  record.reserved = 0;
  copy_text(record.name, sizeof record.name, event.name);
  sequence.store(number, std::memory_order_release);
  std::atomic_ref(file_->header()->events.used).store(number, std::memory_order_release);
  add_relaxed(file_->counters().events, 1);
}

}  // namespace slabscope::diag
