// SPDX-License-Identifier: MIT
//
// The slow half of allocating from an ObjectCache and freeing to it, and what is kept before an
// object that was constructed.

#include <cerrno>

#include "slab/base/panic.h"
#include "slab/base/test_point.h"
#include "slab/cache/cache_guard.h"
#include "slab/cache/group.h"
#include "slab/cache/object_cache.h"
#include "slab/cache/record_table.h"

namespace slabscope {

// ---- constructed objects --------------------------------------------------------------------

// The object in `place`, constructed if it is not. nullptr: the cache leaves, and its end may have
// destructed the object, or be at it.
void* ObjectCache::hand_out(void* place) {
  if (SC_LIKELY(!headed()))
    return place;
  auto& mark = static_cast<Head*>(place)->mark;
  uint64_t found = free_mark(place);
  const uint64_t used = used_mark(found);
  SC_TEST_POINT(kPlaceTaken, id_);
  if (checks_.any())
    return hand_out_checked(place);
  // Either this or take_mark_off() finds the mark.
  if (SC_LIKELY(mark.compare_exchange_strong(found, used, std::memory_order_seq_cst)))
    return object_in(place);
  if (leaving())
    return nullptr;
  if (constructor_ != nullptr)
    constructor_(object_in(place));
  mark.store(used, std::memory_order_relaxed);
  return object_in(place);
}

// The object is free from now on; panics if it was before, or never was one.
void ObjectCache::take_back_mark(const KmemCache& cache, const Slab* slab, void* object) {
  void* place = place_of(object);
  const uint64_t free = free_mark(place);
  uint64_t found = used_mark(free);
  // Pairs with retire(): either it finds the mark, or the caller finds the cache leaving.
  if (checks_.any()) {
    found = take_back_checked(cache, slab, place);
    if (SC_LIKELY(found == used_mark(free)))
      return;
  } else if (SC_LIKELY(static_cast<Head*>(place)->mark.compare_exchange_strong(
                 found, free, std::memory_order_seq_cst))) {
    return;
  }
  if (found == free) {
    stat_add(g_heap_stats->errors_double_free, 1);
    panic("double free of", object, "it is free already");
  }
  stat_add(g_heap_stats->errors_invalid_free, 1);
  panic("invalid free of", object, "it was never allocated, or what precedes it was overwritten");
}

// Whether a free object was there, which is none from now on. One of several callers hears so.
bool ObjectCache::take_mark_off(void* place) {
  if (checks_.any())
    return leave_checked(place);
  uint64_t free = free_mark(place);
  return static_cast<Head*>(place)->mark.compare_exchange_strong(free, 0,
                                                                 std::memory_order_seq_cst);
}

// If a free object is there: destructs it, for good.
bool ObjectCache::destruct(void* place) {
  if (!take_mark_off(place))
    return false;
  if (destructor_ != nullptr)
    destructor_(object_in(place));
  return true;
}

void ObjectCache::destruct_slab(KmemCache& cache, Slab* slab) {
  const uint32_t carved = slab->load().carved;
  for (uint32_t i = 0; i < carved; ++i)
    destruct(slab->base + size_t{i} * cache.object_size());
}

unsigned ObjectCache::release_empty(KmemCache& cache) {
  unsigned released = 0;
  for (Slab* slab = cache.take_empty(); slab != nullptr; slab = cache.take_empty()) {
    destruct_slab(cache, slab);
    cache.release_slab(slab);
    ++released;
  }
  return released;
}

// ---- allocate -------------------------------------------------------------------------------

// While it looks, the cache does not come to its end: either this finds it leaving, or the last
// step of its end finds a holder.
void* ObjectCache::allocate_slow(Error* error) {
  ObjectCache* cache = target();
  cache->holders.fetch_add(1, std::memory_order_seq_cst);
  void* object = cache->allocate_held(*this, error);
  object_cache_let_go(cache->id_);
  return object;
}

// From the cache itself or a child of it, which is held.
void* ObjectCache::allocate_in(unsigned part, ThreadCache& cache, size_t wanted) {
  void* place = nullptr;
  if (headed())
    place = pop_fast(bin_at(cache.bins(), part * sizeof(Bin)));
  if (place == nullptr)
    place = cache.allocate_slow(part, wanted);
  if (SC_UNLIKELY(g_caches.object_pair(part)->draining.load(std::memory_order_seq_cst)))
    cache.drain(part);  // its drain may have come before the bin
  return place;
}

void* ObjectCache::allocate_place(ThreadCache& cache, size_t wanted) {
  if (SC_UNLIKELY(!cache.need_object_bins()))
    return nullptr;
  if (SC_LIKELY(!in_group(cache)))
    return allocate_in(id_, cache, wanted);
  for (;;) {
    if (SC_UNLIKELY(look_due(cache.groups())))
      g_hooks.thread_renamed();
    Group* group = g_groups.current(cache);
    if (group == nullptr)
      return allocate_in(id_, cache, wanted);
    const unsigned part = g_cache_children.hold_for(*this, *group);
    if (SC_UNLIKELY(part == 0))
      return nullptr;
    void* place = allocate_in(part, cache, wanted);
    let_go_of_bin(part);
    if (SC_LIKELY(place != nullptr) || life() != CacheLife::kLive ||
        !g_groups.make_room(cache, *group, wanted)) {
      return place;
    }
  }
}

// For an allocation `through` this cache or an alias of it.
void* ObjectCache::allocate_held(const ObjectCache& through, Error* error) {
  if (through.life() != CacheLife::kLive || life() != CacheLife::kLive) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    *error = ENODEV;
    return nullptr;
  }
  SC_TEST_POINT(kAllocateHeld, id_);
  void* place = nullptr;
  {
    CacheGuard guard;
    if (guard)
      place = allocate_place(*guard.get(), through.size());
  }
  if (place == nullptr && life() != CacheLife::kLive) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    *error = ENODEV;
    return nullptr;
  }
  if (place == nullptr) {
    stat_add(g_heap_stats->failures_no_memory, 1);
    g_hooks.event({HeapEvent::Kind::kOutOfMemory, id_, size_, nullptr});
    *error = ENOMEM;
    return nullptr;
  }
  void* object = hand_out(place);
  if (SC_LIKELY(object != nullptr && life() == CacheLife::kLive))
    return object;
  // Destroyed meanwhile.
  if (object != nullptr) {
    free_slow(object);
  } else {
    Slab* slab = g_page_map.find(place)->slab;
    give_back(*slab->cache.load(std::memory_order_acquire), slab, place);
  }
  refused_.fetch_add(1, std::memory_order_relaxed);
  *error = ENODEV;
  return nullptr;
}

// ---- free -----------------------------------------------------------------------------------

void ObjectCache::wrong_cache(const void* object, unsigned id) const {
  stat_add(g_heap_stats->errors_invalid_free, 1);
  Line detail;
  const ObjectCache* owner = id < Config::kFirstObjectId ? nullptr : object_cache_owning(id);
  if (owner == nullptr) {
    detail.text("it is malloc's");
  } else {
    detail.text("it is of ").text(owner->name(), kNameBytes);
  }
  detail.text(", freed into ").text(life() == CacheLife::kFree ? "one that is gone" : name_);
  panic("wrong cache for", object, detail.c_str());
}

void ObjectCache::free_slow(void* object) {
  if (object == nullptr || push_to_child(object))
    return;
  const Chunk* chunk = g_page_map.find(object);
  const ChunkKind there =
      chunk == nullptr ? ChunkKind::kNone : chunk->kind.load(std::memory_order_acquire);
  if (SC_UNLIKELY(there == ChunkKind::kLarge))
    wrong_cache(object, Config::kLargeId);
  KmemCache* cache =
      there == ChunkKind::kSlab ? chunk->slab->cache.load(std::memory_order_acquire) : nullptr;
  if (SC_UNLIKELY(cache == nullptr)) {
    stat_add(g_heap_stats->errors_invalid_free, 1);
    panic("invalid free of", object, "no cache's object, or freed twice");
  }
  if (SC_UNLIKELY(cache->id() < Config::kFirstObjectId ||
                  object_cache_owning(cache->id()) != target()))
    wrong_cache(object, cache->id());
  target()->free_in_slab(cache, chunk->slab, object);
}

void ObjectCache::free_in_slab(KmemCache* cache, Slab* slab, void* object) {
  void* place = place_of(object);
  if (SC_UNLIKELY(cache->index_of(slab, place) == KmemCache::kNotAnObject)) {
    stat_add(g_heap_stats->errors_invalid_free, 1);
    panic("invalid free of", object, "no object starts there");
  }
  if (headed()) {
    take_back_mark(*cache, slab, object);
    if (leaving() && !typesafe())
      destruct(place);
  }
  give_back(*cache, slab, place);
}

// To a list or the slab; what the program had in `place` is taken care of.
void ObjectCache::give_back(KmemCache& cache, Slab* slab, void* place) {
  const unsigned id = cache.id();
  ObjectPair& part = *g_caches.object_pair(id);
  const uint32_t record =
      cache.tracked() ? take_record(slab->records[cache.index_of(slab, place)], object_in(place))
                      : kUnrecorded;
  // Until the free is counted the cache, or its child, must not come to its end; the object is the
  // last reason that it does not.
  part.holders.fetch_add(1, std::memory_order_seq_cst);
  {
    CacheGuard guard;
    if (guard && (cache.tracked() || leaving() || !guard->need_object_bins())) {
      guard->free_tracked(&cache, slab, place, record);
    } else if (guard) {
      if (!headed() || !push_listed(bin_at(guard->bins(), id * sizeof(Bin)), place))
        guard->free_slow(id, place);
      if (SC_UNLIKELY(part.draining.load(std::memory_order_seq_cst)))
        guard->drain(id);  // its drain may have come before the bin
    } else {
      end_record(record, object_in(place));
    }
  }
  if (headed() && !typesafe() && life() == CacheLife::kLive &&
      stat_get(cache.stats().slabs_empty) > kEmptyKept) {
    release_empty(cache);
  }
  let_go_of_bin(id);
}

}  // namespace slabscope
