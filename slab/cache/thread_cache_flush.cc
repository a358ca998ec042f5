// SPDX-License-Identifier: MIT
//
// The part of ThreadCache that gives back: from a thread's lists to the slabs.
//
//   flush_list, flush_reserve ─► give_back: sorted by slab ─► KmemCache::put
//   flush_lists, flush_all    ─► flush_bin of each cache, CURRENT slabs too

#include "slab/base/panic.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/decay.h"
#include "slab/cache/thread_cache.h"

namespace slabscope {

namespace {

[[noreturn]] SC_COLD void no_object(const void* object) {
  stat_add(g_heap_stats->errors_invalid_free, 1);
  panic("invalid free of", object, "no object starts there");
}

}  // namespace

// Returns up to `limit` objects of `list` to their slabs, one put() a slab and batch; panics if one
// of them is no object of the cache. Returns how many it was.
uint64_t ThreadCache::give_back(KmemCache* cache, Slab* mine, FreeObject* list, uint64_t limit) {
  // Open chains: objects freed together mostly come from few slabs, and a chain that is pushed out
  // early only costs one more compare-and-swap.
  struct Open {
    Slab* slab = nullptr;
    Chain chain;
  } open[kOpenChains];
  const KmemCache::Places places = cache->places();
  uint64_t given = 0;
  uint64_t remote = 0;
  const auto close = [&](Open& entry) {
    if (entry.slab == nullptr)
      return;
    if (entry.slab != mine && entry.slab->load().state == SlabState::kCurrent) {
      remote += entry.chain.count;
    }
    cache->put(entry.slab, entry.chain);
    entry.chain = {};
  };
  // Objects that die in no order lie in as many slabs as there are objects, and in a large heap
  // neither the slabs' records nor the chunks' are in the processor's caches. So they are asked for
  // some dozen at a time, before the first is needed. While objects are here, they are out, and
  // their slab stays what it is.
  FreeObject* objects[kAtOnce];
  Slab* slabs[kAtOnce];
  while (list != nullptr && given < limit) {
    unsigned count = 0;
    for (; count < kAtOnce && list != nullptr && given < limit; ++count, ++given) {
      objects[count] = list;
      __builtin_prefetch(g_page_map.find(list));
      list = list->next;
    }
    for (unsigned i = 0; i < count; ++i) {
      slabs[i] = g_page_map.slab_of(objects[i]);
      if (SC_UNLIKELY(slabs[i] == nullptr))
        no_object(objects[i]);
      __builtin_prefetch(slabs[i], 1);
    }
    for (unsigned i = 0; i < count; ++i) {
      Slab* slab = slabs[i];
      Open& entry = open[reinterpret_cast<uintptr_t>(slab) / sizeof(Slab) % kOpenChains];
      if (entry.slab != slab) {
        if (SC_UNLIKELY(slab->cache.load(std::memory_order_relaxed) != cache))
          no_object(objects[i]);
        close(entry);
        entry.slab = slab;
      }
      if (SC_UNLIKELY(places.index_of(slab->base, objects[i]) == KmemCache::kNotAnObject))
        no_object(objects[i]);
      entry.chain.push(objects[i]);
    }
  }
  for (Open& entry : open)
    close(entry);
  if (remote > 0)
    stat_add(cache->stats().remote_frees, remote);
  return given;
}

// Returns the `count` objects at the list's head to their slabs.
void ThreadCache::flush_list(unsigned id, uint32_t count) {
  Bin* b = bin(id);
  FreeObject* first = b->head;
  FreeObject** link = &b->head;
  uint32_t taken = 0;
  while (taken < count && *link != nullptr) {
    link = &(*link)->next;
    ++taken;
  }
  if (taken == 0)
    return;
  b->head = *link;
  *link = nullptr;  // ends the part that goes; *link is no longer in the list
  slow(id).bias -= taken;
  give_back(g_caches.plain(id), slow(id).current, first, taken);
}

void ThreadCache::flush_reserve(unsigned id) {
  BinSlow& s = slow(id);
  FreeObject* list = s.reserve;
  s.reserve = nullptr;
  s.reserve_count = 0;
  give_back(g_caches.plain(id), s.current, list, UINT64_MAX);
}

void ThreadCache::flush_bin(unsigned id) {
  BinSlow& s = slow(id);
  if (s.cap == 0)
    return;
  flush_list(id, UINT32_MAX);
  flush_reserve(id);
  leave_current(g_caches.plain(id), s.current);
  flush_tracked(id);
}

void ThreadCache::flush_tracked(unsigned id) {
  BinSlow& s = slow(id);
  FreeObject* tracked = s.tracked_reserve;
  s.tracked_reserve = nullptr;
  give_back(g_caches.tracked(id), s.tracked_current, tracked, UINT64_MAX);
  leave_current(g_caches.tracked(id), s.tracked_current);
}

// The slab is forgotten before it is let go: a fork in between must not leave it with two owners in
// the child.
void ThreadCache::leave_current(KmemCache* cache, Slab*& current) {
  if (current == nullptr)
    return;
  Slab* slab = current;
  current = nullptr;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  cache->leave(slab);
}

void ThreadCache::flush_all() {
  drain_requested();
  inside_ = true;
  for (unsigned id = Config::kFirstMallocId; id < id_limit(); ++id) {
    if (has_bin(id))
      flush_bin(id);
  }
  inside_ = false;
}

void ThreadCache::flush_ids(unsigned first, unsigned count) {
  inside_ = true;
  for (unsigned id = first; id < first + count; ++id) {
    if (has_bin(id))
      flush_bin(id);
  }
  inside_ = false;
}

// The lists of all bins go back, those in use too: what lies at their ends may keep a slab each,
// and to fill a list again takes a millionth of the time between two looks. Bins in which nothing
// happened since the last look also forget what they had earned.
void ThreadCache::flush_lists() {
  inside_ = true;
  for (unsigned id = Config::kFirstMallocId; id < id_limit(); ++id) {
    if (!has_bin(id))
      continue;
    BinSlow& s = slow(id);
    const uint32_t now = operations(id);
    const bool idle = now == s.scanned_at;
    if (idle || decay_ms() != 0)  // without a decay time looks follow one another
      flush_bin(id);
    if (idle) {
      s.cap = Config::kBinMinObjects;
      s.slack = 0;
      s.crowded = false;
    }
    s.scanned_at = now;
  }
  inside_ = false;
}

}  // namespace slabscope
