// SPDX-License-Identifier: MIT
//
// CacheTable: from a cache id to its caches, made when the id is first used.
//
//   id ─► plain(id)    the cache whose objects the fast paths hand out
//     └─► tracked(id)  its twin for objects with a stack on record; same size, same statistics
//
// Malloc's ids are 1 .. kOwnId - 1 (size_class.h). kOwnId holds what is allocated on behalf of the
// shim (see OwnScope in slab/heap.h), so that it is not taken for the program's. kLargeId is what
// large.h counts under, which has statistics but no slabs. From kFirstObjectId on ids belong to
// caches that a program makes and destroys (object_cache.h) and to groups' children (group.h,
// cache_child.h):
// their pairs are made there, stay where they are for ever, and are reused. Locks: one for making
// caches; above every cache's own.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "slab/base/config.h"
#include "slab/cache/budget.h"
#include "slab/cache/kmem_cache.h"

namespace slabscope {

// Whose an id from kFirstObjectId on is.
enum class PairKind : uint8_t {
  kObject,      // an ObjectCache
  kGroupChild,  // a group's part of one of malloc's caches (group.h)
  kCacheChild,  // a group's part of an ObjectCache (cache_child.h)
};

// The caches of a program's own id, and what a thread's slow path must know of them.
struct ObjectPair {
  KmemCache plain;
  KmemCache tracked;
  CacheStats* stats = nullptr;             // nullptr: the id is not in use
  std::atomic<uint32_t> holders{0};        // threads that have a bin of it
  std::atomic<bool> draining{false};       // threads are to empty their bins at their next visit
  bool track_all = false;                  // each object gets a stack
  PairKind pair_kind = PairKind::kObject;  // never changes: nor does an id's use
  Budget* budget = nullptr;                // what its slabs or large blocks count against
  CacheStats unseen{};                     // where stats points if nobody outside shows them
};

class CacheTable {
 public:
  static constexpr unsigned kCount = Config::kLargeId;  // ids 1 .. kCount - 1 have slabs

  // Makes the caches of `id` ready; cheap when they are. 1 <= id <= kLargeId.
  void need(unsigned id);
  bool ready(unsigned id) const { return stats_or_null(id) != nullptr; }

  // Of a ready id but kLargeId.
  KmemCache* plain(unsigned id) {
    return SC_LIKELY(id < kCount) ? &plain_[id] : &object_pair(id)->plain;
  }
  KmemCache* tracked(unsigned id) {
    return SC_LIKELY(id < kCount) ? &tracked_[id] : &object_pair(id)->tracked;
  }
  // Of a ready id.
  CacheStats& stats(unsigned id) const { return *stats_or_null(id); }

  // One past the highest id that was ever used.
  SC_INLINE unsigned limit() const {
    const unsigned objects = __atomic_load_n(&object_limit_, __ATOMIC_ACQUIRE);
    return objects == 0 ? Config::kLargeId + 1 : objects;
  }
  // Whether a ready id has slabs: large blocks have none.
  bool has_slabs(unsigned id) { return id != kCount && plain(id)->object_size() != 0; }
  // Of an id from kFirstObjectId on; nullptr if it never was in use.
  ObjectPair* object_pair(unsigned id) const {
    return __atomic_load_n(&objects_[id - kCount], __ATOMIC_ACQUIRE);
  }
  // `count` ids in a row that nobody had, below limit() from now on. Returns the first; 0: no room.
  [[nodiscard]] SC_COLD unsigned reserve_ids(unsigned count);
  // The pair of a reserved id.
  void add_object_pair(unsigned id, ObjectPair* pair);

  // Empty slabs of all caches go back to the page heap. Returns how many.
  unsigned shrink_all();

  void lock_for_fork();
  void unlock_after_fork();
  void reset_after_fork();

 private:
  friend struct HeapLayoutWriter;  // preload/: describes the heap to tools

  CacheStats* stats_or_null(unsigned id) const;

  // Both caches of each id that is ready.
  template <typename Visit>
  void for_each_pair(Visit visit);

  Mutex mutex_;  // making caches, and giving ids out
  KmemCache plain_[kCount];
  KmemCache tracked_[kCount];
  CacheStats* stats_[kCount + 1] = {};
  unsigned object_limit_ = 0;  // one past the highest id of a program's own, or 0
  ObjectPair* objects_[Config::kMaxCaches - kCount] = {};  // by id - kCount
};

extern constinit CacheTable g_caches;

}  // namespace slabscope
