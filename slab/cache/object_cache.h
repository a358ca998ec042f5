// SPDX-License-Identifier: MIT
//
// ObjectCache: a cache that a program makes, uses and destroys; behind slab/slabscope.h.
//
//   create ─► LIVE ─► DYING ─┬─ objects in use ─► LIVE again (kRefuse) or ZOMBIE (kDetach)
//                            └─ none ─► RETIRING ─► FREE: the id may be used again
//                                          ▲ ZOMBIE too, with its last object
//
// It is a pair of KmemCaches under an id of its own, so its objects use the same bins, lists and
// slabs as malloc's. The fast paths ask nothing about its state: allocation finds the bin through
// bin_offset, which is 0, a bin without a list, while the slow path must look; freeing compares the
// id in the map, which is 0 for all chunks of a cache that is on its way out.
//
// Other threads' lists are theirs, and nobody waits for them. Emptiness is judged by the exact
// counts: once nothing is handed out any more, the sum of frees only grows, so a sum that says
// "nothing in use" is true. The slabs whose free objects lie on threads' lists stay until each
// thread has passed its slow path (request_drain) and let go of its bin; the id is free when no
// bin and no slab is left. So also a program that allocates during destroy hurts nobody's memory.
//
// With a constructor or destructor each place has a head, and the object lies behind it:
//   │ link │ mark │ … object │     mark: never constructed (or destructed) │ free │ in use
// so objects keep their state while they are on a list; such caches keep their empty slabs
// (KeepEmpty::kAll) until somebody who may call the destructor destructs what is in them.
//
// Invariants
//   1. life_ changes under ObjectCaches::mutex_; kDying excludes every other destroyer.
//   2. Decide first, unlink second: up to the decision nothing is taken from anybody.
//   3. A bin of the id is counted in `holders` before it is first used, and until it is drained.
//   4. An ObjectCache is never unmapped: a stale handle finds a state, not another's memory.
//   5. ctor, dtor, hooks that capture or write reports: called without a lock of slab/.
// Locks: ObjectCaches::mutex_, below the thread registry's, above CacheTable's.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "slab/base/compiler.h"
#include "slab/base/hooks.h"
#include "slab/base/mutex.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/thread_cache.h"

namespace slabscope {

struct ObjectCacheArgs {
  const char* name;
  size_t size;
  size_t align = 0;  // 0: what the size allows
  uint32_t flags = 0;
  void (*constructor)(void*) = nullptr;
  void (*destructor)(void*) = nullptr;
};

// A count or a handle that could not be had: errno's value. 0 is success.
using Error = int;

enum class WhenBusy : uint8_t { kRefuse, kDetach };

struct ObjectCacheStats {
  CounterPair total;
  uint64_t refused;  // allocations while it was being destroyed
};

class ObjectCache : public ObjectPair {
 public:
  static constexpr size_t kNameBytes = 64;  // with its NUL
  static constexpr size_t kMaxSize = Config::kSmallMax;
  static constexpr uint32_t kHardwareAlign = 0x2000;  // SLAB_HWCACHE_ALIGN
  static constexpr uint32_t kStoreUser = 0x10000;     // SLAB_STORE_USER

  constexpr ObjectCache() = default;

  // ---- the hot line: what the fast paths read ----
  // Byte offset of its bins in a thread's slot; 0: allocations come to allocate_slow().
  uint32_t bin_offset() const { return bin_offset_.load(std::memory_order_relaxed); }
  // The id that the chunks of its slabs have; kNoId: frees come to free_slow().
  uint32_t mapped_id() const { return mapped_id_.load(std::memory_order_relaxed); }

  [[nodiscard]] SC_INLINE void* allocate(Error* error) {
    Bin* bin = bin_at(t_bins, bin_offset());
    void* object = pop_fast(bin);
    return SC_LIKELY(object != nullptr) ? object : allocate_slow(error);
  }
  SC_INLINE void deallocate(void* object) {
    const size_t index = g_page_map.index_of(object);
    if (SC_UNLIKELY(index >= g_page_map.chunk_limit() || g_page_map.id_at(index) != mapped_id() ||
                    !push_listed(bin_at(t_bins, bin_offset()), object))) {
      free_slow(object);
    }
  }

  SC_NOINLINE void* allocate_slow(Error* error);
  SC_NOINLINE void free_slow(void* object);
  // For free(): `object` lies in `slab`, which is of `cache`, one of this pair.
  void free_in_slab(KmemCache* cache, Slab* slab, void* object);

  unsigned id() const { return id_; }
  const char* name() const { return name_; }
  size_t size() const { return size_; }
  uint32_t flags() const { return flags_; }
  CacheLife life() const { return life_.load(std::memory_order_seq_cst); }
  bool constructs() const { return constructor_ != nullptr || destructor_ != nullptr; }
  uint64_t objects_in_use() const;
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

  // Gives empty slabs back, what the caller and threads that ended keep included. Returns how many.
  unsigned shrink();

 private:
  friend class ObjectCaches;

  void* allocate_held(Error* error);

  static constexpr uint32_t kNoId = UINT32_MAX;
  static constexpr uint32_t kEmptyKept = 4;  // slabs of constructed objects, between two looks

  // What precedes an object that was constructed.
  struct Head {
    FreeObject link;
    std::atomic<uint64_t> mark;
  };
  uint64_t free_mark(const void* place) const {
    return (reinterpret_cast<uintptr_t>(place) * 0x9e3779b97f4a7c15) ^ cookie_;
  }
  static uint64_t used_mark(uint64_t free) { return ~free; }
  void* object_in(void* place) const { return static_cast<char*>(place) + offset_; }
  void* place_of(void* object) const { return static_cast<char*>(object) - offset_; }

  void set_up(unsigned id, const ObjectCacheArgs& args, size_t align, uint64_t cookie);
  void open_gate();
  void close_gate() { bin_offset_.store(0, std::memory_order_seq_cst); }
  bool leaving() const;
  void* hand_out(void* place);
  void take_back_mark(void* object);
  bool destruct(void* place);
  void destruct_slab(KmemCache& cache, Slab* slab);
  unsigned release_empty(KmemCache& cache);
  void after_free();
  void send_frees_to_slow_path();
  void retire();
  void retire_in_child();
  [[noreturn]] SC_COLD void wrong_cache(const void* object, unsigned id) const;

  std::atomic<uint32_t> bin_offset_{0};
  std::atomic<uint32_t> mapped_id_{kNoId};
  std::atomic<CacheLife> life_{CacheLife::kFree};
  uint32_t id_ = 0;
  uint32_t flags_ = 0;
  uint32_t align_ = 0;
  uint32_t offset_ = 0;  // of the object in its place
  uint32_t size_ = 0;    // as it was asked for
  uint32_t generation_ = 0;
  uint32_t references_ = 0;  // under ObjectCaches::mutex_
  void (*constructor_)(void*) = nullptr;
  void (*destructor_)(void*) = nullptr;
  uint64_t cookie_ = 0;  // of the marks; never twice the same
  std::atomic<uint64_t> refused_{0};
  ObjectCache* next_unused_ = nullptr;
  char name_[kNameBytes] = {};
};

// All of them, by name and id.
class ObjectCaches {
 public:
  [[nodiscard]] ObjectCache* create(const ObjectCacheArgs& args, Error* error);
  // 0; EBUSY (kRefuse, told to the hook); EALREADY; EINVAL. `*left`: objects in use.
  Error destroy(ObjectCache* cache, WhenBusy when_busy, uint64_t* left);
  // The last slab or the last bin of a cache that is going away may just have gone.
  void try_finish(ObjectCache* cache);

  // The first cache with an id from `id` on that is alive. It is held: its memory stays until
  // let_go().
  ObjectCache* hold_next(unsigned id);
  void let_go(ObjectCache* cache);
  // Not LIVE any more, but the id not free: for tests and gauges.
  unsigned leaving();

  void lock_for_fork() SC_NO_THREAD_ANALYSIS { mutex_.lock(); }
  void unlock_after_fork() SC_NO_THREAD_ANALYSIS { mutex_.unlock(); }
  // In the child: what another thread was destroying is alive, as the decision was not made.
  void reset_after_fork();

 private:
  ObjectCache* new_locked(Error* error) SC_REQUIRES(mutex_);
  bool name_taken_locked(const char* name) SC_REQUIRES(mutex_);
  void set_life_locked(ObjectCache* cache, CacheLife life) SC_REQUIRES(mutex_);
  void finish_locked(ObjectCache* cache) SC_REQUIRES(mutex_);

  Mutex mutex_;
  ObjectCache* unused_first_ SC_GUARDED_BY(mutex_) = nullptr;  // oldest first
  ObjectCache* unused_last_ SC_GUARDED_BY(mutex_) = nullptr;
  uint64_t cookies_ SC_GUARDED_BY(mutex_) = 0;
};

extern constinit ObjectCaches g_object_caches;

// Of a program's own id; nullptr if it is no object cache's.
inline ObjectCache* object_cache(unsigned id) {
  ObjectPair* pair = g_caches.object_pair(id);
  return pair != nullptr && pair->kind == PairKind::kObject ? static_cast<ObjectCache*>(pair)
                                                            : nullptr;
}
// The first one with an id from `id` on; nullptr if there is none.
inline ObjectCache* object_cache_from(unsigned id) {
  for (; id < g_caches.limit(); ++id) {
    if (object_cache(id) != nullptr)
      return object_cache(id);
  }
  return nullptr;
}

// A thread has drained its bin of `id`.
void object_cache_let_go(unsigned id);

}  // namespace slabscope
