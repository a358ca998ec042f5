// SPDX-License-Identifier: MIT
//
// The part of ThreadCache that knows of programs' own caches and of groups' children: memory for
// their bins, made when a thread first uses one, and letting go of bins whose cache is on its way
// out.

#include "slab/base/bits.h"
#include "slab/cache/cache_child.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/record_table.h"
#include "slab/cache/thread_cache.h"
#include "slab/pages/vm.h"

namespace slabscope {

bool ThreadCache::need_object_bins() {
  if (SC_LIKELY(object_slow_ != nullptr))
    return true;
  constexpr size_t kBytes = sizeof(BinSlow) * (Config::kMaxCaches - Config::kFirstObjectId);
  object_slow_ = static_cast<BinSlow*>(vm::map(align_up(kBytes, vm::kOsPage)));
  return object_slow_ != nullptr;
}

unsigned ThreadCache::id_limit() const {
  return SC_LIKELY(object_slow_ == nullptr) ? CacheTable::kCount : g_caches.limit();
}

void ThreadCache::drain(unsigned id) {
  if (!has_bin(id))
    return;
  inside_ = true;
  flush_bin(id);
  *bin(id) = {};
  slow(id) = {};
  inside_ = false;
  let_go_of_bin(id);
}

void ThreadCache::free_in_group(KmemCache* cache, Slab* slab, void* object) {
  if (need_object_bins()) {
    free_slow(cache->id(), object);
  } else {
    free_tracked(cache, slab, object, kUnrecorded);
  }
}

// After fork, when the slot's thread was between two steps of a slow path: what its lists held is
// lost to this child.
void ThreadCache::forget_lists() {
  for (unsigned id = 0; id <= Config::kLargeId; ++id)
    *bin(id) = {};
  __builtin_memset(slow_, 0, sizeof(BinSlow) * Config::kLargeId);
  for (unsigned id = Config::kFirstObjectId; id < id_limit(); ++id) {
    if (!has_bin(id))
      continue;
    *bin(id) = {};
    slow(id) = {};
  }
  inside_ = false;
}

}  // namespace slabscope
