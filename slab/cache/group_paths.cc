// SPDX-License-Identifier: MIT
//
// Threads in groups: entering and leaving, the children they need, what happens at a limit; and
// what a fork child keeps of it.

#include <new>

#include "slab/cache/cache_child.h"
#include "slab/cache/group.h"
#include "slab/cache/thread_registry.h"
#include "slab/pages/meta.h"

namespace slabscope {
namespace {

// How often a thread that is grouped by its name is asked for it: at each of its first visits to
// the slow path, when it may just have been given one, then seldom.
constexpr uint8_t kFirstLooks = 64;
constexpr uint8_t kVisitsPerLook = 64;

// The number of the innermost group, 0 for none.
unsigned current_number(const EnteredGroups& groups) {
  if (groups.depth == 0)
    return groups.home;
  const unsigned known =
      groups.depth < Config::kGroupNesting ? unsigned{groups.depth} : Config::kGroupNesting;
  return groups.inner[known - 1];
}

}  // namespace

bool look_due(EnteredGroups& groups) {
  if (groups.home == 0)
    return false;
  if (groups.looks < kFirstLooks) {
    ++groups.looks;
    return true;
  }
  if (++groups.looks < kFirstLooks + kVisitsPerLook)
    return false;
  groups.looks = kFirstLooks;
  return true;
}

// ---- entering and leaving -------------------------------------------------------------------

Group* Groups::current(const ThreadCache& cache) const {
  const unsigned number = current_number(cache.groups());
  return number == 0 ? nullptr : groups_[number].load(std::memory_order_acquire);
}

void Groups::point_bins(ThreadCache& cache) {
  const Group* group = current(cache);
  cache.groups().current = static_cast<uint8_t>(group == nullptr ? 0 : group->number_);
  cache.set_group_base(group == nullptr ? 0 : group->base_);
}

// Whether the thread is counted in it now; false if it cannot be entered (any more).
bool Groups::come(Group* group) {
  if (group == nullptr)
    return false;
  group->threads_.fetch_add(1, std::memory_order_seq_cst);
  if (group->life() != GroupLife::kLive) {
    group->threads_.fetch_sub(1, std::memory_order_seq_cst);
    return false;
  }
  stat_add(group->stats_->threads, 1);
  return true;
}

void Groups::enter(Group* group) {
  ThreadCache* cache = g_threads.current_or_start();
  if (cache == nullptr)
    return;
  EnteredGroups& groups = cache->groups();
  const unsigned depth = groups.depth++;
  if (depth >= Config::kGroupNesting)
    return;
  const bool entered = cache->need_object_bins() && come(group);
  groups.inner[depth] = static_cast<uint8_t>(entered ? group->number_ : 0);
  point_bins(*cache);
}

void Groups::leave() {
  ThreadCache* cache = g_threads.current_or_start();
  if (cache == nullptr || cache->groups().depth == 0)
    return;
  EnteredGroups& groups = cache->groups();
  const unsigned depth = --groups.depth;
  if (depth >= Config::kGroupNesting)
    return;
  const unsigned left = groups.inner[depth];
  groups.inner[depth] = 0;
  point_bins(*cache);  // before it is counted out
  if (left != 0)
    groups_[left].load(std::memory_order_acquire)->thread_left();
}

void Groups::join(const char* name) {
  ThreadCache* cache = g_threads.current_or_start();
  if (cache == nullptr || !cache->need_object_bins())
    return;
  EnteredGroups& groups = cache->groups();
  const unsigned left = groups.home;
  if (left != 0 && __builtin_strcmp(groups_[left].load()->name_, name) == 0)
    return;
  Group* group = joined(name, left);
  groups.home = static_cast<uint8_t>(group == nullptr ? 0 : group->number_);
  point_bins(*cache);
  if (left != 0)
    groups_[left].load(std::memory_order_acquire)->thread_left();
}

void Groups::leave_each(ThreadCache& cache) {
  const EnteredGroups groups = cache.groups();
  cache.groups() = {};
  point_bins(cache);
  for (const uint8_t number : groups.inner) {
    if (number != 0)
      groups_[number].load(std::memory_order_acquire)->thread_left();
  }
  if (groups.home != 0)
    groups_[groups.home].load(std::memory_order_acquire)->thread_left();
}

// ---- allocating -----------------------------------------------------------------------------

GroupChild* Groups::need_child(Group& group, unsigned id) {
  const unsigned own = group.base_ + id;
  if (SC_LIKELY(g_caches.ready(own)))
    return static_cast<GroupChild*>(g_caches.object_pair(own));
  g_caches.need(id);  // the root first
  MutexLock lock(mutex_);
  auto* child = static_cast<GroupChild*>(g_caches.object_pair(own));
  if (child == nullptr) {
    void* memory = meta_allocate(sizeof(GroupChild));
    if (memory == nullptr)
      return nullptr;
    child = new (memory) GroupChild;
    child->pair_kind = PairKind::kGroupChild;
    child->group = &group;
    child->budget = &group.budget_;
    g_caches.add_object_pair(own, child);
  }
  if (g_caches.ready(own))
    return child;
  CacheInfo info{
      .id = own, .object_size = 0, .slab_bytes = 0, .objects_per_slab = 0, .name = nullptr};
  info.parent = id;
  info.group = group.number_;
  info.generation = group.generation_;
  if (g_caches.has_slabs(id)) {
    const KmemCache& root = *g_caches.plain(id);
    info.object_size = root.object_size();
    info.slab_bytes = root.slab_bytes();
    info.objects_per_slab = root.capacity();
  }
  child->unseen = {};
  CacheStats* stats = g_hooks.cache_created(info);
  if (stats == nullptr)
    stats = &child->unseen;
  if (g_caches.has_slabs(id)) {
    child->plain.init(own, info.object_size, info.slab_bytes, Tracked::kNo, stats);
    child->tracked.init(own, info.object_size, info.slab_bytes, Tracked::kYes, stats);
    for (KmemCache* cache : {&child->plain, &child->tracked}) {
      cache->set_budget(&group.budget_);
      cache->set_keep_empty(KeepEmpty::kOne);
    }
  }
  __atomic_store_n(&child->stats, stats, __ATOMIC_RELEASE);
  return child;
}

// What is free in the group's slabs and on the thread's own lists comes first, then the program is
// asked. While it is, what it allocates fails without asking again.
bool Groups::make_room(ThreadCache& cache, Group& group, size_t wanted) {
  if (!group.budget_.limited())
    return false;
  const uint64_t held = group.held_bytes();
  cache.flush_ids(group.base_, Config::kGroupIds);
  group.for_each_child([](GroupChild& child, unsigned) {
    (void)child.plain.shrink();
    (void)child.tracked.shrink();
  });
  g_cache_children.for_each(group, [&](CacheChild& child) {
    cache.flush_ids(child.id, 1);
    (void)child.plain.shrink();
    (void)child.tracked.shrink();
  });
  if (group.held_bytes() < held)
    return true;
  const Group::OnLimit ask = group.on_limit_.load(std::memory_order_relaxed);
  EnteredGroups& groups = cache.groups();
  if (ask != nullptr && !groups.at_limit) {
    groups.at_limit = true;
    const int again = ask(&group, wanted);
    groups.at_limit = false;
    if (again != 0)
      return true;
  }
  stat_add(group.stats_->refused, 1);
  return false;
}

void* group_allocate(ThreadCache& cache, unsigned id, size_t size) {
  if (SC_UNLIKELY(look_due(cache.groups())))
    g_hooks.thread_renamed();
  for (;;) {
    Group* group = g_groups.current(cache);
    if (group == nullptr)
      return cache.allocate_slow(id, size);
    void* object = nullptr;
    if (g_groups.need_child(*group, id) != nullptr)
      object = cache.allocate_slow(group->base() + id, size);
    if (SC_LIKELY(object != nullptr) || !g_groups.make_room(cache, *group, size))
      return object;
  }
}

LargeBlock group_allocate_large(ThreadCache& cache, size_t size, size_t alignment,
                                unsigned* owner) {
  if (SC_UNLIKELY(look_due(cache.groups())))
    g_hooks.thread_renamed();
  for (;;) {
    Group* group = g_groups.current(cache);
    *owner = Config::kLargeId + (group == nullptr ? 0 : group->base());
    if (group == nullptr)
      return large_allocate(size, alignment);
    LargeBlock block{nullptr, false};
    if (g_groups.need_child(*group, Config::kLargeId) != nullptr)
      block = large_allocate(size, alignment, *owner);
    if (SC_LIKELY(block.address != nullptr) || !g_groups.make_room(cache, *group, size))
      return block;
  }
}

// ---- fork -----------------------------------------------------------------------------------

void Groups::reset_after_fork() SC_NO_THREAD_ANALYSIS {
  ThreadCache* mine = ThreadRegistry::own_mode() || ThreadCache::current() != nullptr
                          ? g_threads.current_or_start()
                          : nullptr;
  for (const auto& entry : groups_) {
    Group* group = entry.load(std::memory_order_acquire);
    if (group == nullptr || group->life() == GroupLife::kFree)
      continue;
    group->references_ = 0;
    group->threads_.store(0, std::memory_order_seq_cst);
    stat_set(group->stats_->threads, 0);
    group->for_each_child([](GroupChild& child, unsigned id) {
      child.holders.store(g_threads.count_bins(id), std::memory_order_seq_cst);
    });
    if (group->life() == GroupLife::kDying)
      set_life_locked(*group, GroupLife::kLive);
  }
  if (mine != nullptr) {
    for (const uint8_t number : mine->groups().inner) {
      if (number != 0)
        groups_[number].load(std::memory_order_acquire)->thread_came();
    }
    if (mine->groups().home != 0)
      groups_[mine->groups().home].load(std::memory_order_acquire)->thread_came();
  }
  for (const auto& entry : groups_) {
    Group* group = entry.load(std::memory_order_acquire);
    if (group == nullptr || group->life() != GroupLife::kRetiring)
      continue;
    retire(*group);
    try_finish(group);
  }
}

}  // namespace slabscope
