// SPDX-License-Identifier: MIT

#include "slab/heap.h"

#include "slab/base/bits.h"
#include "slab/base/panic.h"
#include "slab/cache/cache_guard.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/decay.h"
#include "slab/cache/group.h"
#include "slab/cache/large.h"
#include "slab/cache/object_cache.h"
#include "slab/cache/record_table.h"
#include "slab/cache/thread_registry.h"
#include "slab/pages/meta.h"
#include "slab/pages/page_heap.h"

namespace slabscope {
namespace {

SC_COLD void* no_memory(size_t size) {
  stat_add(g_heap_stats->failures_no_memory, 1);
  g_hooks.event({HeapEvent::Kind::kOutOfMemory, 0, size, nullptr});
  return nullptr;
}

void* allocate_small(unsigned id, size_t size) {
  // By the class, which knows of an alignment, not by the size.
  if (SC_UNLIKELY(ThreadRegistry::own_mode()) &&
      SizeClass::size_of(id) <= Config::kOwnObjectBytes) {
    id = Config::kOwnId;
  }
  CacheGuard cache;
  void* object = nullptr;
  if (SC_LIKELY(cache) && in_group(*cache.get())) {
    object = group_allocate(*cache.get(), id, size);
  } else if (cache) {
    object = cache->allocate_slow(id, size);
  }
  return SC_LIKELY(object != nullptr) ? object : no_memory(size);
}

// Of malloc's id `id`: off this thread's list, or by the slow path.
void* take_small(unsigned id, size_t size) {
  void* object = pop_fast(bin_at(t_malloc_bins, id * sizeof(Bin)));
  return SC_LIKELY(object != nullptr) ? object : allocate_small(id, size);
}

// The kernel has no more memory. What is free may be enough, but lie in pieces: slabs that lists
// keep, and dirty runs beside clean ones. Whether it is worth another try.
SC_COLD bool gather_free_runs(ThreadCache& cache, size_t size) {
  if (stat_get(g_heap_stats->mapped_free_bytes) < size)
    return false;
  cache.flush_all();
  decay_everything();
  return true;
}

// A block of the thread's group, or of malloc's own.
LargeBlock take_large(ThreadCache& cache, size_t size, size_t alignment, unsigned* owner) {
  if (in_group(cache))
    return group_allocate_large(cache, size, alignment, owner);
  *owner = Config::kLargeId;
  LargeBlock block = large_allocate(size, alignment);
  if (SC_UNLIKELY(block.address == nullptr) && gather_free_runs(cache, size))
    block = large_allocate(size, alignment);
  return block;
}

// `requested` is what the program asked for, of `size` bytes.
void* allocate_large(size_t size, size_t alignment, Fill fill, size_t requested) {
  if (size > Config::kMaxRequest) {
    stat_add(g_heap_stats->failures_too_large, 1);
    return nullptr;
  }
  CacheGuard cache;
  if (!cache)
    return no_memory(size);
  uint32_t stack = 0;
  uint32_t interval = 0;
  const bool tracked = cache->sample_large(size, &interval);
  if (tracked)
    stack = cache->capture();
  unsigned owner = 0;
  const LargeBlock block = take_large(*cache.get(), size, alignment, &owner);
  if (block.address == nullptr)
    return no_memory(size);
  if (tracked) {
    large_set_record(block.address,
                     g_hooks.track(block.address, requested, size, owner, stack, interval));
  }
  cache->count_large_alloc(owner, size);
  if (fill == Fill::kZero && !block.zeroed)
    __builtin_memset(block.address, 0, size);
  return block.address;
}

// ---- the slow half of free ------------------------------------------------------------------

[[noreturn]] SC_COLD void invalid_free(void* block, const char* detail) {
  stat_add(g_heap_stats->errors_invalid_free, 1);
  panic("invalid free of", block, detail);
}

void free_tracked_object(KmemCache* cache, Slab* slab, void* block) {
  const uint32_t index = cache->index_of(slab, block);
  if (index == KmemCache::kNotAnObject)
    invalid_free(block, "no object starts there");
  const uint32_t record = take_record(slab->records[index], block);
  CacheGuard guard;
  if (guard)
    guard->free_tracked(cache, slab, block, record);
  else
    end_record(record, block);
}

// A pointer that is neither in a slab nor a large block: another allocator's, or nobody's.
SC_COLD void free_unknown(void* block) {
  if (g_page_map.find(block) != nullptr) {
    // In the window: it was ours once, or is the inside of something.
    stat_add(g_heap_stats->errors_double_free, 1);
    panic("double free of", block, "or of a pointer into the middle of a block");
  }
  if (!g_hooks.foreign_free(block))
    invalid_free(block, "no allocation returned it");
  stat_add(g_heap_stats->foreign_frees, 1);
}

}  // namespace

OwnScope::OwnScope() : was_on_(ThreadRegistry::own_mode()) {
  (void)g_threads.current_or_start();
  ThreadRegistry::set_own_mode(true);
}
OwnScope::~OwnScope() {
  ThreadRegistry::set_own_mode(was_on_);
}

void* allocate_slow(size_t size) {
  if (SC_LIKELY(size <= Config::kSmallMax)) {
    // Size 0 comes here first.
    return take_small(SizeClass::id_of(size), size);
  }
  return allocate_large(size, Config::kGranule, Fill::kAsIs, size);
}

void* allocate_zeroed(size_t size) {
  if (size > Config::kSmallMax)
    return allocate_large(size, Config::kGranule, Fill::kZero, size);
  void* object = allocate(size);
  if (object != nullptr)
    __builtin_memset(object, 0, size);
  return object;
}

void* allocate_aligned(size_t alignment, size_t size) {
  if (alignment <= Config::kGranule)
    return allocate(size);
  const unsigned id = SizeClass::aligned_id_of(size, alignment);
  if (id == 0) {
    return allocate_large(size > Config::kSmallMax ? size : Config::kSmallMax + 1, alignment,
                          Fill::kAsIs, size);
  }
  return take_small(id, size);
}

void deallocate_slow(void* block) {
  if (block == nullptr)
    return;
  Slab* slab = g_page_map.slab_of(block);
  if (SC_LIKELY(slab != nullptr)) {
    KmemCache* cache = slab->cache.load(std::memory_order_acquire);
    if (SC_UNLIKELY(cache == nullptr)) {
      free_unknown(block);
      return;
    }
    ObjectCache* programs =
        cache->id() < Config::kFirstObjectId ? nullptr : object_cache_owning(cache->id());
    if (SC_UNLIKELY(programs != nullptr)) {
      programs->free_in_slab(cache, slab, block);
      return;
    }
    if (cache->tracked()) {
      free_tracked_object(cache, slab, block);
      return;
    }
    CacheGuard guard;
    if (guard && SC_UNLIKELY(cache->id() >= Config::kFirstObjectId)) {
      guard->free_in_group(cache, slab, block);
    } else if (guard) {
      guard->free_slow(cache->id(), block);
    }
    return;
  }
  const LargeReleased released = large_release(block);
  if (!released.found) {
    free_unknown(block);
    return;
  }
  if (released.record != 0)
    g_hooks.untrack(released.record, block);
  CacheGuard guard;
  if (guard)
    guard->count_large_free(released.owner);
}

// ---- sizes and reallocation -----------------------------------------------------------------

size_t usable_size(void* block) {
  if (block == nullptr)
    return 0;
  const Slab* slab = g_page_map.slab_of(block);
  if (slab != nullptr) {
    const KmemCache* cache = slab->cache.load(std::memory_order_acquire);
    if (cache != nullptr) {
      const size_t offset = cache->object_offset();
      if (cache->index_of(slab, static_cast<char*>(block) - offset) != KmemCache::kNotAnObject)
        return cache->usable_size();
    }
  } else {
    size_t size = large_size(block);
    if (size == 0 && g_page_map.find(block) == nullptr)
      size = g_hooks.foreign_size(block);
    if (size != 0)
      return size;
  }
  panic("no block starts at", block, "malloc_usable_size or realloc");
}

namespace {

// A tracked block was resized, a large one perhaps to another address: its record follows.
void retrack(void* block, size_t size) {
  Slab* slab = g_page_map.slab_of(block);
  if (slab == nullptr) {
    const uint32_t record = large_record(block);
    if (record != 0)
      large_set_record(block, g_hooks.retrack(record, block, size));
  } else if (slab->records != nullptr) {
    const KmemCache* cache = slab->cache.load(std::memory_order_acquire);
    const void* place = static_cast<char*>(block) - cache->object_offset();
    uint32_t* slot = &slab->records[cache->index_of(slab, place)];
    const uint32_t record = __atomic_load_n(slot, __ATOMIC_RELAXED);
    if (record == 0 || record == kUnrecorded)
      return;
    const uint32_t now = g_hooks.retrack(record, block, size);
    __atomic_store_n(slot, now != 0 ? now : kUnrecorded, __ATOMIC_RELAXED);
  }
}

// A block that grows by a small step and must be copied gets some more, so that one which grows
// step by step is copied a logarithmic number of times: an eighth of a small one, a quarter of a
// large one, whose untouched pages cost nothing.
size_t size_to_copy_into(size_t have, size_t size) {
  const size_t more = have <= Config::kSmallMax ? have / 8 : have / 4;
  return size < have || size >= have + more ? size : have + more;
}

// A block of `room` bytes for a request of `size`.
void* allocate_with_room(size_t size, size_t room) {
  if (room > Config::kSmallMax)
    return allocate_large(room, Config::kGranule, Fill::kAsIs, size);
  const unsigned id = SizeClass::id_of(room);
  return take_small(id, size);
}

}  // namespace

void* reallocate(void* block, size_t size) {
  if (block == nullptr)
    return allocate(size);
  const size_t have = usable_size(block);
  if (size <= have && (have <= Config::kSmallMax ? size >= have / 2 : size >= have - have / 8)) {
    retrack(block, size);
    return block;
  }
  if (size > Config::kMaxRequest)
    return allocate(size);  // refused and counted there
  if (have > Config::kSmallMax && size > Config::kSmallMax) {
    void* resized = large_resize(block, size);
    if (resized != nullptr) {
      retrack(resized, size);
      return resized;
    }
  }
  void* fresh = allocate_with_room(size, size_to_copy_into(have, size));
  if (fresh == nullptr)
    fresh = allocate(size);
  if (fresh == nullptr)
    return nullptr;
  if (size > Config::kSmallMax)
    g_page_heap.after_fresh(PageHeap::Grown::kForABlock);
  __builtin_memcpy(fresh, block, have < size ? have : size);
  deallocate(block);
  return fresh;
}

size_t trim() {
  ThreadCache* cache = ThreadCache::current();
  if (cache != nullptr)
    cache->flush_all();
  return decay_everything();
}

// ---- fork -----------------------------------------------------------------------------------

void heap_lock_for_fork() {
  g_groups.lock_making_for_fork();
  g_threads.lock_for_fork();
  g_object_caches.lock_for_fork();
  g_groups.lock_for_fork();
  g_cache_children.lock_for_fork();
  g_caches.lock_for_fork();
  large_lock_for_fork();
  slab_records_lock_for_fork();
  record_tables_lock_for_fork();
  g_page_heap.lock_for_fork();
  meta_lock_for_fork();
}

void heap_unlock_after_fork() {
  meta_unlock_after_fork();
  g_page_heap.unlock_after_fork();
  record_tables_unlock_after_fork();
  slab_records_unlock_after_fork();
  large_unlock_after_fork();
  g_caches.unlock_after_fork();
  g_cache_children.unlock_after_fork();
  g_groups.unlock_after_fork();
  g_object_caches.unlock_after_fork();
  g_threads.unlock_after_fork();
  g_groups.unlock_making_after_fork();
}

void heap_reset_after_fork() {
  meta_reset_after_fork();
  g_page_heap.reset_after_fork();
  record_tables_reset_after_fork();
  slab_records_reset_after_fork();
  large_reset_after_fork();
  g_caches.reset_after_fork();
  g_threads.reset_after_fork();
  g_groups.reset_locks_after_fork();
  g_cache_children.reset_after_fork();
  g_object_caches.reset_after_fork();
  g_groups.reset_after_fork();
}

}  // namespace slabscope
