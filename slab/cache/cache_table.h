// SPDX-License-Identifier: MIT
//
// CacheTable: from a cache id to its caches, made when the id is first used.
//
//   id ─► plain(id)    the cache whose objects the fast paths hand out
//     └─► tracked(id)  its twin for objects with a stack on record; same size, same statistics
//
// Malloc's ids are 1 .. kOwnId - 1 (size_class.h). kOwnId holds what is allocated on behalf of the
// shim (see OwnScope in slab/heap.h), so that it is not taken for the program's. kLargeId is what
// large.h counts under, which has statistics but no slabs. Locks: one for making caches; above
// every cache's own.

#pragma once

#include <cstddef>

#include "slab/base/config.h"
#include "slab/cache/kmem_cache.h"

namespace slabscope {

class CacheTable {
 public:
  static constexpr unsigned kCount = Config::kLargeId;  // ids 1 .. kCount - 1 have slabs

  // Makes the caches of `id` ready; cheap when they are. 1 <= id <= kLargeId.
  void need(unsigned id);
  bool ready(unsigned id) const {
    return __atomic_load_n(&stats_[id], __ATOMIC_ACQUIRE) != nullptr;
  }

  // Of a ready id below kCount.
  KmemCache* plain(unsigned id) { return &plain_[id]; }
  KmemCache* tracked(unsigned id) { return &tracked_[id]; }
  // Of a ready id.
  CacheStats& stats(unsigned id) const { return *__atomic_load_n(&stats_[id], __ATOMIC_ACQUIRE); }

  // Empty slabs of all caches go back to the page heap. Returns how many.
  unsigned shrink_all();

  void lock_for_fork();
  void unlock_after_fork();
  void reset_after_fork();

 private:
  Mutex mutex_;
  KmemCache plain_[kCount];
  KmemCache tracked_[kCount];
  CacheStats* stats_[kCount + 1] = {};
};

extern constinit CacheTable g_caches;

}  // namespace slabscope
