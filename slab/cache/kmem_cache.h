// SPDX-License-Identifier: MIT
//
// KmemCache: all slabs of objects of one size, and the list of those that have objects to give.
//
//   thread's list ◄─refill── CURRENT slab ◄─acquire()── partial list ◄─── put(): first object back
//        │                                      ▲                     ◄─── leave(): thread moved on
//        └──flush, grouped by slab──► put() ────┘   empty ──► page heap (one empty slab is kept)
//                                                   none left ──► grow: a run from the page heap
//
// A tracked cache is the twin of another, for objects with a stack on record: its slabs' map entry
// is id 0, so that a free comes to the slow path by itself, and each slab has a table of record
// numbers, one an object. Its geometry and its statistics are those of the other.
//
// Invariants
//   1. slabs on partial_ are PARTIAL and `listed`; no other slab is.                  (validate())
//   2. A slab returns to the page heap only from the partial list, with all objects in it, under
//      mutex_: nobody can reach it then.
//   3. stats.objects_out == carved - count, summed over the slabs, when no thread is inside.
// Locks: mutex_; below it only the page heap's and the record list's. put() takes it only when a
// slab changes between FULL, PARTIAL and empty: once a slab's worth of frees, not once a free.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "slab/base/bits.h"
#include "slab/base/config.h"
#include "slab/base/list.h"
#include "slab/base/mutex.h"
#include "slab/base/stats.h"
#include "slab/cache/budget.h"
#include "slab/cache/slab.h"

namespace slabscope {

enum class Tracked : uint8_t { kNo, kYes };

// Which slabs without an object out a cache keeps for later: malloc's caches the last one (or
// min_partial); caches whose objects must be destructed first, all (see take_empty()); caches that
// go away, none.
enum class KeepEmpty : uint8_t { kOne, kAll, kNone };

// What a look at the slabs on the partial list, and at those that threads take from, says.
struct SlabCensus {
  uint64_t partial_objects;  // that are out of the slabs on the list
  uint64_t current;          // slabs that threads take from
};

class KmemCache {
 public:
  constexpr KmemCache() = default;

  // Before any use, and again when all slabs are gone. `slab_bytes` is a multiple of kChunk;
  // `stats` outlives the cache.
  void init(unsigned id, size_t object_size, size_t slab_bytes, Tracked tracked, CacheStats* stats);

  unsigned id() const { return id_; }
  uint32_t object_size() const { return object_size_; }
  uint32_t slab_bytes() const { return slab_chunks_ << Config::kChunkShift; }
  uint32_t capacity() const { return capacity_; }
  bool tracked() const { return tracked_; }
  // Where the program's object starts in its place: 0, or behind what a constructor needs; and how
  // many bytes of the place it may use.
  uint32_t object_offset() const { return object_offset_; }
  uint32_t usable_size() const { return object_size_ - object_offset_ - object_tail_; }
  void set_object_place(uint32_t offset, uint32_t tail) {
    object_offset_ = offset;
    object_tail_ = tail;
  }
  // Slabs owned, by our own count.
  uint32_t slabs() const { return slab_count_.load(std::memory_order_acquire); }
  CacheStats& stats() const { return *stats_; }

  // A slab with objects to give, now CURRENT and the caller's; nullptr without memory. `*waited` is
  // set if another thread was at the list just then.
  [[nodiscard]] Slab* acquire(bool* waited = nullptr);
  // The same, but only a slab to which objects came back, so that memory which was used is used
  // again before more is touched; nullptr if there is none. Costs one load when the list is empty.
  [[nodiscard]] Slab* acquire_used();
  // The caller is done with its CURRENT slab.
  void leave(Slab* slab);

  // From a CURRENT slab of the caller: up to `wanted` of the objects that came back (may be none)
  // ...
  Chain take_returned(Slab* slab, uint32_t wanted);
  // ... or up to `wanted` objects that were never used, linked in address order (may be empty).
  Chain carve(Slab* slab, uint32_t wanted);

  // Returns a chain of objects, all of `slab`, to it. Any thread. Panics if the slab would then
  // hold more objects than it has: one of them was freed twice.
  void put(Slab* slab, Chain chain);

  // The number of `object` in its slab; kNotAnObject if no object starts there.
  static constexpr uint32_t kNotAnObject = UINT32_MAX;
  uint32_t index_of(const Slab* slab, const void* object) const {
    return places().index_of(slab->base, object);
  }

  // Where objects are in a slab: for loops, a copy that stays in registers.
  struct Places {
    Divider divider;
    uint32_t object_size;
    uint32_t capacity;

    uint32_t index_of(const char* base, const void* object) const {
      const auto offset = static_cast<uint32_t>(static_cast<const char*>(object) - base);
      const uint32_t index = divider.divide(offset);
      return index < capacity && index * object_size == offset ? index : kNotAnObject;
    }
  };
  Places places() const { return {divider_, object_size_, capacity_}; }

  // Whether the last slab stays when it is empty, for a program that frees and allocates in turn
  // (so it is after init), or goes to the page heap too.
  void keep_empty(bool keep) { __atomic_store_n(&drop_empty_, !keep, __ATOMIC_RELAXED); }

  // Gives empty slabs back to the page heap, unless all are kept. Returns how many.
  unsigned shrink();

  // For caches that come and go (object_cache.h).
  SC_COLD void set_keep_empty(KeepEmpty keep);
  // What slabs count against from now on. Before the first one.
  void set_budget(Budget* budget) { budget_ = budget; }
  // An empty slab, now the caller's alone, who gives it to release_slab(); nullptr: there is none.
  [[nodiscard]] Slab* take_empty();
  void release_slab(Slab* slab);
  // From now on new slabs' chunks carry `id` in the map: 0 sends every free to the slow path.
  void set_mapped_id(unsigned id) { mapped_id_.store(id, std::memory_order_release); }
  // If `slab` is this cache's, so do its chunks.
  SC_COLD void remap(Slab* slab);
  // Marks what is empty now. What is still empty, and was not used in between, when the caller
  // comes back with the mark is handed out by take_idle() as by take_empty(): so a grace period
  // fits in between, and the cache may use its slabs meanwhile.
  [[nodiscard]] uint32_t mark_idle();
  [[nodiscard]] Slab* take_idle(uint32_t mark);

  // An emptied slab stays if fewer slabs than this are on the list; for kOne.
  uint32_t min_partial() const { return 1 + __atomic_load_n(&more_partial_, __ATOMIC_RELAXED); }
  void set_min_partial(uint32_t slabs) {
    __atomic_store_n(&more_partial_, slabs - 1, __ATOMIC_RELAXED);
  }
  SC_COLD SlabCensus census();

  SC_COLD void validate();
  void lock_for_fork() SC_NO_THREAD_ANALYSIS { mutex_.lock(); }
  void unlock_after_fork() SC_NO_THREAD_ANALYSIS { mutex_.unlock(); }
  void reset_after_fork() { mutex_.reset_after_fork(); }

 private:
  friend struct HeapLayoutWriter;  // preload/: describes the heap to tools

  Slab* grow();
  Slab* grow_within_budget();
  void list_slab(Slab* slab);
  [[noreturn]] SC_COLD void double_free(const Slab* slab, const SlabWord& word,
                                        const Chain& chain) const;
  void slab_emptied(Slab* slab);
  void unlist_locked(Slab* slab) SC_REQUIRES(mutex_);
  void take_away_locked(Slab* slab) SC_REQUIRES(mutex_);
  Slab* fullest_locked() SC_REQUIRES(mutex_);
  void take_from_list_locked(Slab* slab) SC_REQUIRES(mutex_);
  [[noreturn]] SC_COLD void bad_link(const FreeObject* object, const FreeObject* next) const;
  FreeObject* next_of(const Slab* slab, const FreeObject* object) const;
  void count_out(uint32_t count);
  void set_counted_empty_locked(Slab* slab, bool counted) SC_REQUIRES(mutex_);
  bool keeps_empty() const { return !__atomic_load_n(&drop_empty_, __ATOMIC_RELAXED); }
  bool is_empty(const SlabWord& word) const { return word.count == word.carved; }
  // Whether an empty slab stays when `others` are on the list.
  bool keeps_locked(uint32_t others) const SC_REQUIRES(mutex_) {
    return keep_ == KeepEmpty::kAll ||
           (keep_ == KeepEmpty::kOne && keeps_empty() && others < min_partial());
  }

  Mutex mutex_;
  uint32_t id_ = 0;
  uint32_t object_size_ = 0;
  uint32_t slab_chunks_ = 0;
  uint32_t capacity_ = 0;
  bool tracked_ = false;
  bool drop_empty_ = false;  // all zero at start: the caches cost no byte of the library's data
  Divider divider_;
  CacheStats* stats_ = nullptr;
  Budget* budget_ = nullptr;
  List<Slab> partial_ SC_GUARDED_BY(mutex_);
  uint32_t partial_count_ SC_GUARDED_BY(mutex_) = 0;
  uint32_t empty_count_ SC_GUARDED_BY(mutex_) = 0;
  KeepEmpty keep_ SC_GUARDED_BY(mutex_) = KeepEmpty::kOne;
  uint32_t object_offset_ = 0;
  uint32_t object_tail_ = 0;
  uint32_t more_partial_ = 0;  // min_partial() - 1: zero at start; 0 - 1 is none
  uint32_t idle_marks_ SC_GUARDED_BY(mutex_) = 0;
  std::atomic<uint32_t> mapped_id_{0};
  std::atomic<uint32_t> slab_count_{0};
};

}  // namespace slabscope
