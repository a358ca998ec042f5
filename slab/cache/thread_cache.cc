// SPDX-License-Identifier: MIT

#include "slab/cache/thread_cache.h"

#include "slab/base/clock.h"
#include "slab/base/panic.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/decay.h"
#include "slab/cache/record_table.h"

namespace slabscope {

// ---- the bookkeeping of one bin -------------------------------------------------------------

uint64_t ThreadCache::length(unsigned id) {
  Bin* b = bin(id);
  if (b->head == nullptr)
    return 0;
  const CounterPair* counters = counters_of(b);
  const uint64_t value = counted(counters->frees) - counted(counters->allocs) + slow(id).bias;
  // Shared memory is not to be trusted: a senseless length is taken for a full list.
  return value <= Config::kBinLongest ? value : Config::kBinLongest;
}

// First use of a bin: its cache exists, its counters have a page, its first sample is drawn.
void ThreadCache::need_bin(unsigned id) {
  BinSlow& s = slow(id);
  if (SC_LIKELY(s.cap != 0))
    return;
  if (SC_LIKELY(id < Config::kFirstObjectId)) {
    g_caches.need(id);
  } else {
    // Before the first count: who sees that nothing is in use sees this too.
    g_caches.object_pair(id)->holders.fetch_add(1, std::memory_order_seq_cst);
  }
  Bin* b = bin(id);
  CounterPair* counters = counters_of(b);
  (void)g_hooks.counters_needed(counters);
  s.cap = Config::kBinMinObjects;
  s.missed_at = operations(id) - Config::kBinBusy;  // the first miss says nothing yet
  const uint64_t allocs = counted(counters->allocs);
  s.bias = allocs - counted(counters->frees);
  start_sampling(id);
}

// Draws the bin's first sample with the interval now in force.
void ThreadCache::start_sampling(unsigned id) {
  BinSlow& s = slow(id);
  KmemCache* tracked = g_caches.tracked(id);
  const uint64_t distance = draw_distance(id, tracked->object_size());
  s.sample_at = counted(counters_of(bin(id))->allocs) + (distance == 0 ? 0 : distance - 1);
  s.tracked_batch = (distance == 0 ? kTrackedBatch : 1) & 15U;
  // A class has a sample alive now and then: no memory waits for the next one.
  tracked->keep_empty(distance == 0);
}

// How many allocations away the next tracked one is; see Hooks::sample_distance.
uint64_t ThreadCache::draw_distance(unsigned id, size_t size) {
  if (SC_UNLIKELY(id == Config::kOwnId))
    return kNever;
  if (SC_UNLIKELY(id >= Config::kFirstObjectId && g_caches.object_pair(id)->track_all))
    return 0;
  slow(id).thinning = thinning_ & 15U;
  return g_hooks.sample_distance(&rng_, size, sample_interval() << thinning_);
}

// Sets trip so that list and frees to come stay within the cap (and its slack) and the next
// sample's distance.
void ThreadCache::rearm(unsigned id) {
  BinSlow& s = slow(id);
  Bin* b = bin(id);
  const CounterPair* counters = counters_of(b);
  const uint64_t allocs = counted(counters->allocs);
  const uint64_t distance = s.sample_at > allocs ? s.sample_at - allocs : 0;
  if (distance == 0 && b->head == nullptr) {
    b->trip = counted(counters->frees);  // all are tracked, or the next one is
    return;
  }
  uint64_t have = length(id);
  if (SC_UNLIKELY(have > distance / 2 && distance < Config::kBinLongest)) {
    shorten(id, distance / 2);
    have = length(id);
  }
  const uint64_t most = have == 0 && only_frees(id) ? (s.cap + 1U) / 2 : s.cap;
  uint64_t room = have < most ? most - have : 0;
  room += s.slack;
  if (have + room > distance)
    room = distance > have ? distance - have : 0;
  b->trip = counted(counters->frees) + room;
}

// Keeps the first `keep` objects of the list; the others go to the reserve.
void ThreadCache::shorten(unsigned id, uint64_t keep) {
  BinSlow& s = slow(id);
  Bin* b = bin(id);
  FreeObject** link = &b->head;
  for (uint64_t i = 0; i < keep && *link != nullptr; ++i)
    link = &(*link)->next;
  FreeObject* rest = *link;
  *link = nullptr;
  while (rest != nullptr) {
    FreeObject* next = rest->next;
    rest->next = s.reserve;
    s.reserve = rest;
    ++s.reserve_count;
    --s.bias;
    rest = next;
  }
}

// ---- from slabs to the list -----------------------------------------------------------------

uint32_t ThreadCache::objects_within(unsigned id, size_t bytes, uint32_t most) const {
  const size_t objects = bytes / g_caches.plain(id)->object_size();
  if (objects > most)
    return most;
  return objects < Config::kBinMinObjects ? Config::kBinMinObjects : static_cast<uint32_t>(objects);
}

// Where a bin's cap ends; what lies beside its list may be as much.
uint32_t ThreadCache::longest_list(unsigned id) const {
  return objects_within(id, Config::kBinMaxBytes, Config::kBinMaxObjects);
}

uint32_t ThreadCache::operations(unsigned id) {
  const CounterPair* counters = counters_of(bin(id));
  return static_cast<uint32_t>(counted(counters->allocs) + counted(counters->frees));
}

// The list ran dry or full. If that was not long ago it may hold more from now on: memory that a
// thread keeps for itself must earn its place.
void ThreadCache::missed(unsigned id) {
  BinSlow& s = slow(id);
  const uint32_t now = operations(id);
  if (now - s.missed_at < Config::kBinBusy) {
    const uint32_t most = longest_list(id);
    s.cap = static_cast<uint8_t>(s.cap * 2U < most ? s.cap * 2U : most);
  }
  s.missed_at = now;
}

// Since the list was last too long nothing was taken from it: the thread frees what others
// allocate. Such a list keeps nothing back when it is flushed, and is flushed at half its length:
// the batches are the same.
bool ThreadCache::only_frees(unsigned id) {
  return static_cast<uint8_t>(counted(counters_of(bin(id))->allocs)) == slow(id).flushed_at;
}

// Fills the empty list with up to `wanted` objects: from the reserve, else objects that came back
// to the current slab, else ones never used, else from another slab. Without memory it stays empty.
// NOLINTNEXTLINE(readability-function-size): one choice after the other, in one loop.
void ThreadCache::refill(unsigned id, uint32_t wanted) {
  BinSlow& s = slow(id);
  if (s.reserve != nullptr) {
    move_from_reserve(id, wanted);
    return;
  }
  KmemCache* cache = g_caches.plain(id);
  for (;;) {
    if (s.current != nullptr) {
      Chain chain = cache->take_returned(s.current, wanted);
      if (chain.count == 0) {
        Slab* used = cache->acquire_used();
        if (used != nullptr) {
          leave_current(cache, s.current);
          s.current = used;
          continue;
        }
        chain = cache->carve(s.current, wanted);
      }
      if (chain.count > 0) {
        bin(id)->head = chain.head;
        s.bias += chain.count;
        if (s.cap < Config::kBinKeepsSlab && !s.crowded)
          leave_current(cache, s.current);
        return;
      }
      leave_current(cache, s.current);
    }
    s.current = cache->acquire(&s.crowded);
    if (s.current == nullptr)
      return;
  }
}

void ThreadCache::move_from_reserve(unsigned id, uint32_t wanted) {
  BinSlow& s = slow(id);
  FreeObject* last = s.reserve;
  uint32_t moved = 1;
  while (moved < wanted && last->next != nullptr) {
    last = last->next;
    ++moved;
  }
  bin(id)->head = s.reserve;
  s.reserve = last->next;
  s.reserve_count = static_cast<uint16_t>(s.reserve_count - moved);
  last->next = nullptr;
  s.bias += moved;
}

void* ThreadCache::allocate_slow(unsigned id, size_t requested) {
  visit();
  inside_ = true;
  need_bin(id);
  BinSlow& s = slow(id);
  Bin* b = bin(id);
  CounterPair* counters = counters_of(b);
  const uint64_t allocs = counted(counters->allocs);
  void* object = nullptr;
  if (SC_UNLIKELY(allocs >= s.sample_at && !busy_)) {
    object = allocate_tracked(id, requested);
  } else {
    if (b->head == nullptr) {
      // Restart the length from what is known for sure: the list is empty.
      s.bias = allocs - counted(counters->frees);
      const uint64_t distance = s.sample_at > allocs ? s.sample_at - allocs : 0;
      // Half the room, so that frees fit in before the list must be flushed; at most half the way
      // to the next sample.
      uint64_t wanted = (s.cap + 1) / 2;
      if (wanted > distance / 2)
        wanted = distance / 2;
      refill(id, static_cast<uint32_t>(wanted > 0 ? wanted : 1));
      missed(id);
      stat_add(g_caches.stats(id).slow_allocations, 1);
    }
    object = pop_fast(b);
  }
  rearm(id);
  inside_ = false;
  return object;
}

// ---- tracked objects ------------------------------------------------------------------------

// An object of the tracked twin and its slab; nullptr without memory.
FreeObject* ThreadCache::take_tracked(unsigned id, Slab** slab) {
  BinSlow& s = slow(id);
  KmemCache* cache = g_caches.tracked(id);
  while (s.tracked_reserve == nullptr) {
    if (s.tracked_current != nullptr) {
      Chain chain = cache->take_returned(s.tracked_current, s.tracked_batch);
      if (chain.count == 0)
        chain = cache->carve(s.tracked_current, s.tracked_batch);
      if (chain.count > 0) {
        s.tracked_reserve = chain.head;
        break;
      }
      leave_current(cache, s.tracked_current);
    }
    s.tracked_current = cache->acquire();
    if (s.tracked_current == nullptr)
      return nullptr;
  }
  FreeObject* object = s.tracked_reserve;
  s.tracked_reserve = object->next;
  *slab = s.tracked_current;  // the reserve is emptied before another slab becomes current
  // Samples are few: all threads take them from one slab, and touch one page instead of one each.
  if (s.tracked_batch == 1)
    leave_current(cache, s.tracked_current);
  return object;
}

uint32_t ThreadCache::capture() {
  const bool grouped = groups_.base != 0;
  const uint64_t began = is_paced() ? monotonic_ns() : 0;
  busy_ = true;
  if (SC_UNLIKELY(grouped))
    t_malloc_bins = t_bins;  // what the unwinder keeps for the thread is no group's
  const uint32_t stack = g_hooks.capture();
  busy_ = false;
  if (SC_UNLIKELY(grouped))
    set_group_base(groups_.base);
  if (began != 0)
    pace_by_cost(monotonic_ns() - began);
  return stack;
}

void* ThreadCache::allocate_tracked(unsigned id, size_t requested) {
  // No lock is held and no list is in between while the stack is captured; what the capture itself
  // allocates goes the plain way, because busy_ is set.
  inside_ = false;
  const bool all = id >= Config::kFirstObjectId && g_caches.object_pair(id)->track_all;
  const uint32_t interval = all ? 1 : sample_interval() << slow(id).thinning;  // of the draw
  const uint32_t stack = capture();
  inside_ = true;
  Slab* slab = nullptr;
  FreeObject* object = take_tracked(id, &slab);
  if (object == nullptr)
    return nullptr;
  object->next = nullptr;  // or a leak check takes it for a pointer of the program's
  BinSlow& s = slow(id);
  KmemCache* cache = g_caches.tracked(id);
  const uint32_t record =
      g_hooks.track(reinterpret_cast<const char*>(object) + cache->object_offset(), requested,
                    cache->object_size(), id, stack, interval);
  __atomic_store_n(&slab->records[cache->index_of(slab, object)],
                   record != 0 ? record : kUnrecorded, __ATOMIC_RELAXED);
  CounterPair* counters = counters_of(bin(id));
  count_up(counters->allocs);
  ++s.bias;  // the list did not change
  pace_sampling();
  const uint64_t distance = draw_distance(id, cache->object_size());
  s.sample_at = counted(counters->allocs) + (distance == 0 ? 0 : distance - 1);
  return object;
}

void ThreadCache::free_tracked(KmemCache* cache, Slab* slab, void* object, uint32_t record) {
  visit();
  inside_ = true;
  end_record(record, static_cast<const char*>(object) + cache->object_offset());
  auto* free_object = static_cast<FreeObject*>(object);
  cache->put(slab, Chain{free_object, free_object, 1});
  CounterPair* counters = counters_of(bin(cache->id()));
  count_up(counters->frees);
  if (has_bin(cache->id())) {
    --slow(cache->id()).bias;  // the list did not change
    rearm(cache->id());
  }
  inside_ = false;
}

// ---- from the list to the slabs -------------------------------------------------------------

// An object that is on the thread's list is free already. The fast path looks at the first one
// alone.
void ThreadCache::check_not_listed(unsigned id, const FreeObject* object) {
  uint32_t looked_at = 0;
  for (const FreeObject* listed = bin(id)->head; listed != nullptr && looked_at < kListedLookedAt;
       listed = listed->next, ++looked_at) {
    if (SC_LIKELY(listed != object))
      continue;
    stat_add(g_heap_stats->errors_double_free, 1);
    panic("double free of", object, "it is free already");
  }
}

void ThreadCache::free_slow(unsigned id, void* object) {
  visit();
  inside_ = true;
  need_bin(id);
  BinSlow& s = slow(id);
  Bin* b = bin(id);
  CounterPair* counters = counters_of(b);
  auto* free_object = static_cast<FreeObject*>(object);
  if (b->head == nullptr)
    s.bias = counted(counters->allocs) - counted(counters->frees);
  check_not_listed(id, free_object);
  const uint64_t have = length(id);
  free_object->next = b->head;
  b->head = free_object;
  count_up(counters->frees);
  const uint64_t half = s.cap / 2;
  const bool useless = only_frees(id);
  if (have + 1 > (useless ? half : s.cap)) {
    flush_list(id, static_cast<uint32_t>(have + 1 - (useless ? 0 : half)));
    s.flushed_at = static_cast<uint8_t>(counted(counters->allocs));
    missed(id);
    s.slack = 0;
  } else {
    const size_t bytes = have <= 1 ? Config::kBinEmptySlackBytes : Config::kBinSlackBytes;
    const uint32_t most = objects_within(id, bytes, Config::kBinSlackObjects);
    s.slack = static_cast<uint16_t>(s.slack * 2U + 4 < most ? s.slack * 2U + 4 : most);
  }
  rearm(id);
  if (s.reserve != nullptr && s.reserve_count > longest_list(id))
    flush_reserve(id);
  inside_ = false;
}

}  // namespace slabscope
