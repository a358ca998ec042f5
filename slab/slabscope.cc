// SPDX-License-Identifier: MIT
//
// The C functions of slabscope.h: ObjectCache with errno.

#include "slab/slabscope.h"

#include <errno.h>

#include "slab/cache/cache_attributes.h"
#include "slab/cache/object_cache.h"
#include "slab/cache/thread_registry.h"

namespace slabscope {
namespace {

static_assert(SLAB_HWCACHE_ALIGN == ObjectCache::kHardwareAlign);
static_assert(SLAB_STORE_USER == ObjectCache::kStoreUser);
static_assert(SLAB_CONSISTENCY_CHECKS == ObjectCache::kConsistency);
static_assert(SLAB_RED_ZONE == ObjectCache::kRedZone && SLAB_POISON == ObjectCache::kPoison);
static_assert(SLAB_TYPESAFE_BY_RCU == ObjectCache::kTypesafe);
static_assert(SLAB_MERGE == ObjectCache::kMerge);
static_assert(SLAB_MAX_OBJECT_SIZE == ObjectCache::kMaxSize);
static_assert(SLAB_MAX_NAME == ObjectCache::kNameBytes - 1);

SC_INLINE ObjectCache* inside(slab_cache* cache) {
  return reinterpret_cast<ObjectCache*>(cache);
}
SC_INLINE const ObjectCache* inside(const slab_cache* cache) {
  return reinterpret_cast<const ObjectCache*>(cache);
}
SC_INLINE slab_cache* outside(ObjectCache* cache) {
  return reinterpret_cast<slab_cache*>(cache);
}

SC_NOINLINE void* allocate_slow(ObjectCache* cache) {
  Error error = 0;
  void* listed = cache->pop_from_child();
  if (SC_LIKELY(listed != nullptr))
    return listed;
  void* object = cache->allocate_slow(&error);
  if (object == nullptr)
    errno = error;
  return object;
}

SC_INLINE void* allocate(ObjectCache* cache) {
  void* object = pop_fast(bin_at(t_object_bins, cache->bin_offset()));
  return SC_LIKELY(object != nullptr) ? object : allocate_slow(cache);
}

int destroy(slab_cache* cache, WhenBusy when_busy) {
  if (cache == nullptr)
    return 0;
  uint64_t left = 0;
  const Error error = g_object_caches.destroy(inside(cache), when_busy, &left);
  if (error != 0)
    return -error;
  return left != 0 ? 1 : 0;
}

}  // namespace
}  // namespace slabscope

using slabscope::g_object_caches;
using slabscope::inside;
using slabscope::ObjectCache;
using slabscope::outside;

extern "C" {

SC_EXPORT slab_cache* slab_cache_create(const char* name, size_t size,
                                        const slab_cache_args* given) {
  slabscope::ObjectCacheArgs args{.name = name, .size = size};
  if (given != nullptr) {
    args.align = given->align;
    args.flags = given->flags;
    args.constructor = given->ctor;
    args.destructor = given->dtor;
    args.rcu = reinterpret_cast<const slabscope::RcuFlavor*>(given->rcu);
  }
  slabscope::Error error = 0;
  ObjectCache* cache = g_object_caches.create(args, &error);
  if (cache == nullptr)
    errno = error;
  return outside(cache);
}

SC_EXPORT void* slab_cache_alloc(slab_cache* cache) {
  return slabscope::allocate(inside(cache));
}

SC_EXPORT void* slab_cache_zalloc(slab_cache* cache) {
  if (inside(cache)->keeps_state()) {
    errno = EINVAL;
    return nullptr;
  }
  void* object = slabscope::allocate(inside(cache));
  if (object != nullptr)
    __builtin_memset(object, 0, inside(cache)->size());
  return object;
}

SC_EXPORT void slab_cache_free(slab_cache* cache, void* object) {
  inside(cache)->deallocate(object);
}

SC_EXPORT size_t slab_cache_alloc_bulk(slab_cache* cache, size_t count, void** objects) {
  for (size_t i = 0; i < count; ++i) {
    objects[i] = slabscope::allocate(inside(cache));
    if (objects[i] != nullptr)
      continue;
    const int error = errno;
    slab_cache_free_bulk(cache, i, objects);
    errno = error;
    return 0;
  }
  return count;
}

SC_EXPORT void slab_cache_free_bulk(slab_cache* cache, size_t count, void** objects) {
  for (size_t i = 0; i < count; ++i)
    inside(cache)->deallocate(objects[i]);
}

SC_EXPORT int slab_cache_shrink(slab_cache* cache) {
  if (cache == nullptr || inside(cache)->life() != slabscope::CacheLife::kLive)
    return -EINVAL;
  const unsigned released = inside(cache)->shrink();
  g_object_caches.settle();
  return static_cast<int>(released);
}

SC_EXPORT int slab_cache_destroy(slab_cache* cache) {
  return slabscope::destroy(cache, slabscope::WhenBusy::kRefuse);
}

SC_EXPORT int slab_cache_destroy_detach(slab_cache* cache) {
  return slabscope::destroy(cache, slabscope::WhenBusy::kDetach);
}

SC_EXPORT slab_cache* slab_cache_of(const void* object) {
  const slabscope::Chunk* chunk = slabscope::g_page_map.find(object);
  if (chunk == nullptr ||
      chunk->kind.load(std::memory_order_acquire) != slabscope::ChunkKind::kSlab)
    return nullptr;
  const slabscope::KmemCache* cache = chunk->slab->cache.load(std::memory_order_acquire);
  if (cache == nullptr || cache->id() < slabscope::Config::kFirstObjectId)
    return nullptr;
  return outside(slabscope::object_cache_owning(cache->id()));
}

SC_EXPORT const char* slab_cache_name(const slab_cache* cache) {
  return inside(cache)->name();
}

SC_EXPORT size_t slab_cache_size(const slab_cache* cache) {
  return inside(cache)->size();
}

SC_EXPORT int slab_cache_get_stats(slab_cache* cache, slab_cache_stats* stats) {
  if (cache == nullptr || inside(cache)->life() == slabscope::CacheLife::kFree)
    return -EINVAL;
  const ObjectCache* object_cache = inside(cache)->target();
  if (!slabscope::g_caches.ready(object_cache->id()))
    return -EINVAL;
  const slabscope::PartSums sums = object_cache->sums();
  const slabscope::CounterPair& total = sums.counts;
  *stats = {.active_objects = total.allocs - total.frees,
            .allocations_total = total.allocs,
            .frees_total = total.frees,
            .object_size = object_cache->plain.object_size(),
            .objects_per_slab = object_cache->plain.capacity(),
            .slab_size = object_cache->plain.slab_bytes(),
            .slabs = sums.stats.slabs,
            .slabs_empty = sums.stats.slabs_empty,
            .allocations_refused = object_cache->refused()};
  return 0;
}

SC_EXPORT int slab_cache_for_each(int (*visit)(slab_cache* cache, void* context), void* context) {
  ObjectCache* cache = g_object_caches.hold_next(0);
  while (cache != nullptr) {
    const unsigned next = cache->id() + 1;
    const int result = visit(outside(cache), context);
    g_object_caches.let_go(cache);
    if (result != 0)
      return result;
    cache = g_object_caches.hold_next(next);
  }
  return 0;
}

SC_EXPORT slab_cache* slab_cache_find(const char* name) {
  return name == nullptr ? nullptr : outside(g_object_caches.hold_named(name));
}

SC_EXPORT void slab_cache_put(slab_cache* cache) {
  if (cache != nullptr)
    g_object_caches.let_go(inside(cache));
}

SC_EXPORT int slab_cache_show(slab_cache* cache, const char* attribute, char* buffer, size_t size) {
  if (cache == nullptr || attribute == nullptr)
    return -EINVAL;
  return slabscope::show_attribute(*inside(cache), attribute, buffer, size);
}

SC_EXPORT int slab_cache_store(slab_cache* cache, const char* attribute, const char* text) {
  if (cache == nullptr || attribute == nullptr || text == nullptr)
    return -EINVAL;
  return slabscope::store_attribute(*inside(cache), attribute, text);
}

}  // extern "C"
