// SPDX-License-Identifier: MIT

#include "slab/cache/cache_table.h"

#include "slab/base/hooks.h"
#include "slab/cache/size_class.h"

namespace slabscope {
namespace {

struct Name {
  char text[24];
};

// "malloc-<size>" or "malloc-large".
Name name_of(unsigned id) {
  if (id == Config::kOwnId)
    return Name{"slabscope"};
  Name name{"malloc-large"};
  if (id == Config::kLargeId)
    return name;
  char digits[8];
  size_t count = 0;
  for (size_t size = SizeClass::size_of(id); size != 0; size /= 10) {
    digits[count++] = static_cast<char>('0' + size % 10);
  }
  size_t end = 7;  // behind "malloc-"
  while (count > 0)
    name.text[end++] = digits[--count];
  name.text[end] = '\0';
  return name;
}

}  // namespace

constinit CacheTable g_caches;

CacheStats* CacheTable::stats_or_null(unsigned id) const {
  if (SC_LIKELY(id <= kCount))
    return __atomic_load_n(&stats_[id], __ATOMIC_ACQUIRE);
  const ObjectPair* pair = id < Config::kFirstObjectId ? nullptr : object_pair(id);
  return pair == nullptr ? nullptr : __atomic_load_n(&pair->stats, __ATOMIC_ACQUIRE);
}

void CacheTable::need(unsigned id) {
  if (ready(id))
    return;
  MutexLock lock(mutex_);
  if (ready(id))
    return;
  const Name name = name_of(id);
  CacheInfo info{
      .id = id, .object_size = 0, .slab_bytes = 0, .objects_per_slab = 0, .name = name.text};
  if (id < kCount) {
    const size_t size = id == Config::kOwnId ? Config::kOwnObjectBytes : SizeClass::size_of(id);
    const size_t slab_bytes = SizeClass::slab_bytes(size);
    info.object_size = static_cast<uint32_t>(size);
    info.slab_bytes = static_cast<uint32_t>(slab_bytes);
    info.objects_per_slab = static_cast<uint32_t>(slab_bytes / size);
  }
  CacheStats* stats = g_hooks.cache_created(info);
  if (id < kCount) {
    plain_[id].init(id, info.object_size, info.slab_bytes, Tracked::kNo, stats);
    tracked_[id].init(id, info.object_size, info.slab_bytes, Tracked::kYes, stats);
  }
  __atomic_store_n(&stats_[id], stats, __ATOMIC_RELEASE);
}

unsigned CacheTable::reserve_ids(unsigned count) {
  MutexLock lock(mutex_);
  const unsigned first = object_limit_ == 0 ? unsigned{Config::kFirstObjectId} : object_limit_;
  if (count > Config::kMaxCaches - first)
    return 0;
  __atomic_store_n(&object_limit_, first + count, __ATOMIC_RELEASE);
  return first;
}

void CacheTable::add_object_pair(unsigned id, ObjectPair* pair) {
  __atomic_store_n(&objects_[id - kCount], pair, __ATOMIC_RELEASE);
}

unsigned CacheTable::shrink_all() {
  unsigned released = 0;
  for (unsigned id = Config::kFirstMallocId; id < limit(); ++id) {
    if (id == Config::kLargeId || !ready(id) || stat_get(stats(id).slabs_empty) == 0)
      continue;
    released += plain(id)->shrink() + tracked(id)->shrink();
  }
  return released;
}

template <typename Visit>
void CacheTable::for_each_pair(Visit visit) {
  for (unsigned id = Config::kFirstMallocId; id < limit(); ++id) {
    if (id == Config::kLargeId || !ready(id))
      continue;
    visit(*plain(id));
    visit(*tracked(id));
  }
}

void CacheTable::lock_for_fork() SC_NO_THREAD_ANALYSIS {
  mutex_.lock();
  for_each_pair([](KmemCache& cache) { cache.lock_for_fork(); });
}

void CacheTable::unlock_after_fork() SC_NO_THREAD_ANALYSIS {
  for_each_pair([](KmemCache& cache) { cache.unlock_after_fork(); });
  mutex_.unlock();
}

void CacheTable::reset_after_fork() {
  for_each_pair([](KmemCache& cache) { cache.reset_after_fork(); });
  mutex_.reset_after_fork();
}

}  // namespace slabscope
