// SPDX-License-Identifier: MIT

#include "slab/cache/cache_child.h"

#include <new>

#include "slab/base/panic.h"
#include "slab/base/test_point.h"
#include "slab/cache/group.h"
#include "slab/cache/object_cache.h"
#include "slab/cache/thread_registry.h"
#include "slab/pages/meta.h"

namespace slabscope {

constinit CacheChildren g_cache_children;

void let_go_of_bin(unsigned id) {
  ObjectPair* pair = g_caches.object_pair(id);
  switch (pair->pair_kind) {
    case PairKind::kObject:
      object_cache_let_go(id);
      break;
    case PairKind::kGroupChild:
      group_child_let_go(id);
      break;
    case PairKind::kCacheChild:
      g_cache_children.let_go(*static_cast<CacheChild*>(pair));
      break;
  }
}

// ---- made -----------------------------------------------------------------------------------

unsigned CacheChildren::hold_for(ObjectCache& root, Group& group) {
  std::atomic<uint16_t>& entry = root.children_[group.number()];
  for (;;) {
    unsigned id = entry.load(std::memory_order_seq_cst);
    if (id == 0)
      id = make(root, group);
    if (id == 0)
      return 0;
    SC_TEST_POINT(kChildFound, id);
    g_caches.object_pair(id)->holders.fetch_add(1, std::memory_order_seq_cst);
    if (SC_LIKELY(entry.load(std::memory_order_seq_cst) == id))
      return id;
    let_go_of_bin(id);  // it was cleared meanwhile
  }
}

// A record that nobody uses, with room for its counters in every slot; nullptr: no id, no memory.
CacheChild* CacheChildren::take_record() {
  CacheChild* child = nullptr;
  {
    MutexLock lock(mutex_);
    child = unused_;
    if (child != nullptr)
      unused_ = child->next_unused;
  }
  if (child == nullptr) {
    void* memory =
        g_caches.limit() < Config::kMaxCaches ? meta_allocate(sizeof(CacheChild)) : nullptr;
    const unsigned id = memory == nullptr ? 0 : g_caches.reserve_ids(1);
    if (id == 0)
      return nullptr;
    child = new (memory) CacheChild;
    child->pair_kind = PairKind::kCacheChild;
    child->id = id;
    g_caches.add_object_pair(id, child);
    MutexLock lock(mutex_);
    child->next_made = made_;
    made_ = child;
  }
  if (g_threads.prepare_counters(child->id))
    return child;
  MutexLock lock(mutex_);
  unuse_locked(*child);
  return nullptr;
}

// The id that the index names from now on.
unsigned CacheChildren::make(ObjectCache& root, Group& group) {
  CounterPair* ledger = g_threads.ledger_of(0);
  CacheChild* child = ledger == nullptr ? nullptr : take_record();
  const bool no_ids = child == nullptr && g_caches.limit() >= Config::kMaxCaches;
  MutexLock lock(mutex_);
  std::atomic<uint16_t>& entry = root.children_[group.number()];
  const unsigned found = entry.load(std::memory_order_seq_cst);
  // Who destroys the root says so first, and then clears the index under the lock.
  const bool alive = root.life() == CacheLife::kLive;
  if (found == 0 && alive && child != nullptr) {
    ledger_ = ledger;
    publish_locked(*child, root, group);
    return child->id;
  }
  if (child != nullptr)
    unuse_locked(*child);
  if (found == 0 && alive && no_ids)
    entry.store(static_cast<uint16_t>(root.id()), std::memory_order_seq_cst);
  return entry.load(std::memory_order_seq_cst);
}

void CacheChildren::publish_locked(CacheChild& child, ObjectCache& root, Group& group) {
  child.root.store(&root, std::memory_order_release);
  child.group.store(&group, std::memory_order_release);
  child.track_all = root.track_all;
  child.budget = &group.budget_;
  child.unseen = {};
  const CacheInfo info{.id = child.id,
                       .object_size = root.plain.object_size(),
                       .slab_bytes = root.plain.slab_bytes(),
                       .objects_per_slab = root.plain.capacity(),
                       .name = nullptr,
                       .align = root.align_,
                       .flags = root.flags_,
                       .generation = child.generation,
                       .parent = root.id_,
                       .group = group.number()};
  CacheStats* stats = g_hooks.cache_created(info);
  if (stats == nullptr)
    stats = &child.unseen;
  child.plain.init(child.id, info.object_size, info.slab_bytes, Tracked::kNo, stats);
  child.tracked.init(child.id, info.object_size, info.slab_bytes, Tracked::kYes, stats);
  for (KmemCache* cache : {&child.plain, &child.tracked}) {
    cache->set_object_place(root.offset_, root.checks_.tail());
    cache->set_keep_empty(root.headed() ? KeepEmpty::kAll : KeepEmpty::kOne);
    cache->set_min_partial(root.plain.min_partial());
    cache->set_budget(child.budget);
  }
  if (root.headed())
    child.plain.set_mapped_id(0);  // free() must not push what lies behind a head
  __atomic_store_n(&child.stats, stats, __ATOMIC_RELEASE);
  child.life.store(CacheLife::kLive, std::memory_order_seq_cst);
  root.child_count_.fetch_add(1, std::memory_order_seq_cst);
  group.cache_children_.fetch_add(1, std::memory_order_seq_cst);
  root.children_[group.number()].store(static_cast<uint16_t>(child.id), std::memory_order_seq_cst);
}

void CacheChildren::unuse_locked(CacheChild& child) {
  child.next_unused = unused_;
  unused_ = &child;
}

// ---- looked at ------------------------------------------------------------------------------

template <typename Belongs>
CacheChild* CacheChildren::hold_next_if(CacheChild* after, Belongs belongs) {
  MutexLock lock(mutex_);
  CacheChild* child = after == nullptr ? made_ : after->next_made;
  for (; child != nullptr; child = child->next_made) {
    if (child->life.load(std::memory_order_relaxed) == CacheLife::kFree || !belongs(*child))
      continue;
    child->holders.fetch_add(1, std::memory_order_seq_cst);
    return child;
  }
  return nullptr;
}

CacheChild* CacheChildren::hold_next(const ObjectCache& root, CacheChild* after) {
  if (root.child_count_.load(std::memory_order_seq_cst) == 0)
    return nullptr;
  return hold_next_if(after, [&](const CacheChild& child) {
    return child.root.load(std::memory_order_relaxed) == &root;
  });
}

CacheChild* CacheChildren::hold_next(const Group& group, CacheChild* after) {
  if (group.cache_children_.load(std::memory_order_seq_cst) == 0)
    return nullptr;
  return hold_next_if(after, [&](const CacheChild& child) {
    return child.group.load(std::memory_order_relaxed) == &group;
  });
}

PartSums CacheChildren::sums(const ObjectCache& root) {
  MutexLock lock(mutex_);
  PartSums sums{};
  const auto add = [&](const ObjectPair& part, unsigned id) {
    const CacheStats* stats = __atomic_load_n(&part.stats, __ATOMIC_ACQUIRE);
    if (stats == nullptr)
      return;
    const CounterPair total = g_threads.total(id);
    sums.counts.allocs += total.allocs;
    sums.counts.frees += total.frees;
    sums.stats.slabs += stat_get(stats->slabs);
    sums.stats.slabs_partial += stat_get(stats->slabs_partial);
    sums.stats.slabs_empty += stat_get(stats->slabs_empty);
    sums.stats.slow_allocations += stat_get(stats->slow_allocations);
    sums.stats.remote_frees += stat_get(stats->remote_frees);
    sums.stats.slabs_grown += stat_get(stats->slabs_grown);
    sums.stats.slabs_released += stat_get(stats->slabs_released);
  };
  add(root, root.id());
  if (root.child_count_.load(std::memory_order_seq_cst) == 0)
    return sums;
  for (const CacheChild* child = made_; child != nullptr; child = child->next_made) {
    if (child->root.load(std::memory_order_relaxed) == &root)
      add(*child, child->id);
  }
  return sums;
}

CounterPair CacheChildren::in_use_of(const Group& group, uint64_t* bytes) {
  CounterPair sum{};
  *bytes = 0;
  if (group.cache_children_.load(std::memory_order_seq_cst) == 0)
    return sum;
  MutexLock lock(mutex_);
  for (const CacheChild* child = made_; child != nullptr; child = child->next_made) {
    if (child->group.load(std::memory_order_relaxed) != &group)
      continue;
    const CounterPair total = g_threads.total(child->id);
    sum.allocs += total.allocs;
    sum.frees += total.frees;
    *bytes += (total.allocs - total.frees) * child->plain.object_size();
  }
  return sum;
}

unsigned CacheChildren::in_use() {
  MutexLock lock(mutex_);
  unsigned count = 0;
  for (const CacheChild* child = made_; child != nullptr; child = child->next_made)
    count += child->life.load(std::memory_order_relaxed) != CacheLife::kFree ? 1U : 0U;
  return count;
}

void CacheChildren::flush_callbacks_of(const Group& group) {
  for_each(group, [](const CacheChild& child) {
    const ObjectCache* root = child.root.load(std::memory_order_acquire);
    if (root->typesafe())
      root->grace_.flush_callbacks();
  });
}

// ---- the end --------------------------------------------------------------------------------

void CacheChildren::set_draining(ObjectCache& root, bool draining) {
  MutexLock lock(mutex_);
  root.draining.store(draining, std::memory_order_seq_cst);
  for (CacheChild* child = made_; child != nullptr; child = child->next_made) {
    if (child->root.load(std::memory_order_relaxed) == &root &&
        child->life.load(std::memory_order_relaxed) == CacheLife::kLive) {
      child->draining.store(draining, std::memory_order_seq_cst);
    }
  }
}

void CacheChildren::leave(ObjectCache& root) {
  MutexLock lock(mutex_);
  for (std::atomic<uint16_t>& entry : root.children_)
    entry.store(0, std::memory_order_seq_cst);
  const CacheLife life =
      root.life() == CacheLife::kZombie ? CacheLife::kZombie : CacheLife::kRetiring;
  for (CacheChild* child = made_; child != nullptr; child = child->next_made) {
    if (child->root.load(std::memory_order_relaxed) != &root ||
        child->life.load(std::memory_order_relaxed) == CacheLife::kRetiring) {
      continue;
    }
    child->draining.store(true, std::memory_order_seq_cst);
    child->life.store(life, std::memory_order_seq_cst);
    g_hooks.cache_changed(child->id, life);
  }
}

void CacheChildren::retire_of(Group& group) {
  {
    MutexLock lock(mutex_);
    for (ObjectCache& root : all_object_caches())
      root.children_[group.number()].store(0, std::memory_order_seq_cst);
    for (CacheChild* child = made_; child != nullptr; child = child->next_made) {
      if (child->group.load(std::memory_order_relaxed) != &group)
        continue;
      const ObjectCache* root = child->root.load(std::memory_order_relaxed);
      if (root->headed() && !child->unsettled.exchange(true, std::memory_order_seq_cst))
        unsettled_.fetch_add(1, std::memory_order_seq_cst);
      child->draining.store(true, std::memory_order_seq_cst);
      child->life.store(CacheLife::kRetiring, std::memory_order_seq_cst);
      g_hooks.cache_changed(child->id, CacheLife::kRetiring);
    }
  }
  request_drain();
  for_each(group, [](CacheChild& child) {
    if (!child.unsettled.load(std::memory_order_seq_cst))
      child.root.load(std::memory_order_acquire)->retire_part(child);
    g_threads.drain(child.id);
  });
}

void CacheChildren::settle() {
  while (unsettled_.load(std::memory_order_seq_cst) != 0) {
    CacheChild* child = hold_next_if(nullptr, [](const CacheChild& unsettled) {
      return unsettled.unsettled.load(std::memory_order_relaxed);
    });
    if (child == nullptr)
      return;
    ObjectCache* root = child->root.load(std::memory_order_acquire);  // outlives its children
    if (root->typesafe())
      root->grace_.wait();
    root->retire_part(*child);
    settled(*child);
    let_go(*child);
  }
}

void CacheChildren::settled(CacheChild& child) {
  if (child.unsettled.exchange(false, std::memory_order_seq_cst))
    unsettled_.fetch_sub(1, std::memory_order_seq_cst);
}

void CacheChildren::let_go(CacheChild& child) {
  if (child.holders.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
      child.draining.load(std::memory_order_seq_cst)) {
    try_finish(child);
  }
}

void CacheChildren::try_finish(CacheChild& child) {
  ObjectCache* root = nullptr;
  Group* group = nullptr;
  {
    MutexLock lock(mutex_);
    const CacheLife life = child.life.load(std::memory_order_relaxed);
    if ((life != CacheLife::kRetiring && life != CacheLife::kZombie) ||
        child.unsettled.load(std::memory_order_seq_cst) ||
        child.holders.load(std::memory_order_seq_cst) != 0 || child.plain.slabs() != 0 ||
        child.tracked.slabs() != 0) {
      return;
    }
    root = child.root.load(std::memory_order_relaxed);
    group = child.group.load(std::memory_order_relaxed);
    finish_locked(child);
  }
  g_groups.try_finish(group);
  g_object_caches.try_finish(root);
}

// Nobody has a bin, an object or a slab of it. What it counted is its root's from now on.
void CacheChildren::finish_locked(CacheChild& child) {
  ObjectCache& root = *child.root.load(std::memory_order_relaxed);
  const CounterPair total = g_threads.total(child.id);
  SC_DCHECK(root.children_[child.group.load()->number()].load() != child.id);
  g_hooks.cache_changed(child.id, CacheLife::kFree);
  CounterPair& pair = ledger_[root.id_];
  count_to(pair.allocs, counted(pair.allocs) + total.allocs);
  // No slab is left, so all came back; a fork may have cut a thread off before it counted that.
  count_to(pair.frees, counted(pair.frees) + total.allocs);
  CacheStats& sums = *root.stats;
  stat_add(sums.slow_allocations, stat_get(child.stats->slow_allocations));
  stat_add(sums.remote_frees, stat_get(child.stats->remote_frees));
  stat_add(sums.slabs_grown, stat_get(child.stats->slabs_grown));
  stat_add(sums.slabs_released, stat_get(child.stats->slabs_released));
  g_threads.reset_counters(child.id);
  child.draining.store(false, std::memory_order_seq_cst);
  __atomic_store_n(&child.stats, nullptr, __ATOMIC_RELEASE);
  child.life.store(CacheLife::kFree, std::memory_order_seq_cst);
  child.group.load()->cache_children_.fetch_sub(1, std::memory_order_seq_cst);
  child.root.store(nullptr, std::memory_order_release);
  child.group.store(nullptr, std::memory_order_release);
  ++child.generation;
  unuse_locked(child);
  root.child_count_.fetch_sub(1, std::memory_order_seq_cst);
}

// ---- fork -----------------------------------------------------------------------------------

void CacheChildren::reset_after_fork() SC_NO_THREAD_ANALYSIS {
  mutex_.reset_after_fork();
  unused_ = nullptr;
  for (CacheChild* child = made_; child != nullptr; child = child->next_made) {
    child->holders.store(g_threads.count_bins(child->id), std::memory_order_seq_cst);
    if (child->life.load(std::memory_order_relaxed) == CacheLife::kFree)
      unuse_locked(*child);
  }
}

}  // namespace slabscope
