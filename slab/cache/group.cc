// SPDX-License-Identifier: MIT
//
// The life of groups: made, found by name, destroyed, released.

#include "slab/cache/group.h"

#include <new>

#include "slab/cache/cache_child.h"
#include "slab/cache/thread_registry.h"
#include "slab/pages/meta.h"

namespace slabscope {
namespace {

// What threads share for whose names there is no room.
constexpr char kOther[] = "other";

// What a child that goes has counted is its root's from now on.
void add_to_ledger(CounterPair* ledger, const GroupChild& child, unsigned root,
                   const CounterPair& total) {
  CounterPair& pair = ledger[root];
  count_to(pair.allocs, counted(pair.allocs) + total.allocs);
  count_to(pair.frees, counted(pair.frees) + total.frees);
  CacheStats& sums = g_caches.stats(root);
  stat_add(sums.slow_allocations, stat_get(child.stats->slow_allocations));
  stat_add(sums.remote_frees, stat_get(child.stats->remote_frees));
  stat_add(sums.slabs_grown, stat_get(child.stats->slabs_grown));
  stat_add(sums.slabs_released, stat_get(child.stats->slabs_released));
}

}  // namespace

constinit Groups g_groups;

// ---- one group ------------------------------------------------------------------------------

Group::InUse Group::in_use() const {
  InUse sum{};
  for_each_child([&](const GroupChild& child, unsigned id) {
    const CounterPair total = g_threads.total(id);
    const uint64_t objects = total.allocs - total.frees;
    sum.objects += objects;
    sum.bytes += g_caches.has_slabs(id) ? objects * child.plain.object_size()
                                        : stat_get(child.stats->live_bytes);
  });
  uint64_t bytes = 0;
  const CounterPair of_caches = g_cache_children.in_use_of(*this, &bytes);
  sum.objects += of_caches.allocs - of_caches.frees;
  sum.bytes += bytes;
  return sum;
}

void Group::set_limit(size_t bytes, OnLimit on_limit) {
  on_limit_.store(on_limit, std::memory_order_relaxed);
  budget_.set_limit(bytes);
}

void Group::thread_came() {
  threads_.fetch_add(1, std::memory_order_seq_cst);
  stat_add(stats_->threads, 1);
}

void Group::thread_left() {
  stat_sub(stats_->threads, 1);
  threads_.fetch_sub(1, std::memory_order_seq_cst);  // last: it may go with its last thread
}

// ---- made -----------------------------------------------------------------------------------

Group* Groups::find_locked(const char* name) {
  for (const auto& entry : groups_) {
    Group* group = entry.load(std::memory_order_acquire);
    if (group == nullptr)
      continue;
    const GroupLife life = group->life();
    if ((life == GroupLife::kLive || life == GroupLife::kDying) &&
        __builtin_strcmp(group->name_, name) == 0) {
      return group;
    }
  }
  return nullptr;
}

// One whose number is free, or a new one; nullptr if there is no number, no ids or no memory.
Group* Groups::unused_locked() {
  for (unsigned number = 1; number <= Config::kMaxGroups; ++number) {
    Group* group = groups_[number].load(std::memory_order_acquire);
    if (group != nullptr && group->life() == GroupLife::kFree) {
      ++group->generation_;
      return group;
    }
    if (group != nullptr)
      continue;
    if (g_caches.limit() + Config::kGroupIds > Config::kMaxCaches)
      return nullptr;
    void* memory = meta_allocate(sizeof(Group));
    const unsigned base = memory == nullptr ? 0 : g_caches.reserve_ids(Config::kGroupIds);
    if (base == 0)
      return nullptr;
    group = new (memory) Group;
    group->number_ = number;
    group->base_ = base;
    groups_[number].store(group, std::memory_order_release);
    return group;
  }
  return nullptr;
}

void Groups::set_life_locked(Group& group, GroupLife life) {
  group.life_.store(life, std::memory_order_seq_cst);
  g_hooks.group_changed(group.number_, life);
}

void Groups::set_up_locked(Group& group, const char* name, GroupMade made) {
  __builtin_memcpy(group.name_, name, __builtin_strlen(name) + 1);  // checked
  group.made_ = made;
  group.unseen_ = {};
  group.stats_ = g_hooks.group_created({.number = group.number_,
                                        .name = group.name_,
                                        .first_id = group.base_,
                                        .generation = group.generation_,
                                        .made = made});
  if (group.stats_ == nullptr)
    group.stats_ = &group.unseen_;
  group.budget_.reset(group.stats_);
  group.on_limit_.store(nullptr, std::memory_order_relaxed);
  set_life_locked(group, GroupLife::kLive);
}

// making_ keeps the group that is found unused here from being found again meanwhile.
Group* Groups::make(const char* name, GroupMade made, Error* error) {
  CounterPair* ledger = g_threads.ledger_of(0);
  Group* group = nullptr;
  {
    MutexLock lock(mutex_);
    if (find_locked(name) != nullptr) {
      *error = EEXIST;
      return nullptr;
    }
    group = unused_locked();
  }
  // Slots that open from now on see the run; those that are open get their pages here.
  const bool ready = group != nullptr && ledger != nullptr &&
                     g_threads.prepare_counters(group->base_) &&
                     g_threads.prepare_counters(group->base_ + Config::kGroupIds - 1);
  if (!ready) {
    *error = group == nullptr ? ENOSPC : ENOMEM;
    return nullptr;
  }
  MutexLock lock(mutex_);
  ledger_ = ledger;
  set_up_locked(*group, name, made);
  return group;
}

Group* Groups::create(const char* name, Error* error) {
  *error = check_given_name(name);
  if (*error != 0)
    return nullptr;
  (void)g_threads.current_or_start();  // boots, if this is the program's first step of all
  MutexLock lock(making_);
  return make(name, GroupMade::kByProgram, error);
}

// ---- by thread name -------------------------------------------------------------------------

// Whether a thread's name may have a group beside "other", for which there is room in any case.
bool Groups::room_for_another() {
  MutexLock lock(mutex_);
  unsigned unused = 0;
  unsigned unmade = 0;
  for (unsigned number = 1; number <= Config::kMaxGroups; ++number) {
    const Group* group = groups_[number].load(std::memory_order_acquire);
    if (group == nullptr) {
      ++unmade;
    } else if (group->life() == GroupLife::kFree) {
      ++unused;
    }
  }
  const unsigned runs = (Config::kMaxCaches - g_caches.limit()) / Config::kGroupIds;
  unused += unmade < runs ? unmade : runs;
  return unused > (find_locked(kOther) == nullptr ? 1U : 0U);
}

// The live one that threads' names made, with one more thread in it.
Group* Groups::take_by_name(const char* name) {
  MutexLock lock(mutex_);
  Group* group = find_locked(name);
  if (group == nullptr || group->life() != GroupLife::kLive ||
      group->made_ != GroupMade::kByThreadName) {
    return nullptr;
  }
  group->thread_came();
  return group;
}

// The group for a thread of that name, or the one for all others, with one more thread in it: one
// that was in the group `before`.
Group* Groups::joined(const char* name, unsigned before) {
  MutexLock lock(making_);
  Group* group = take_by_name(name);
  Error error = 0;
  if (group == nullptr && room_for_another() && check_given_name(name) == 0 &&
      make(name, GroupMade::kByThreadName, &error) != nullptr) {
    group = take_by_name(name);
  }
  if (group != nullptr)
    return group;
  group = take_by_name(kOther);
  if (group == nullptr && make(kOther, GroupMade::kByThreadName, &error) != nullptr)
    group = take_by_name(kOther);
  if (group != nullptr && group->number_ != before)
    stat_add(group->stats_->overflowed, 1);
  return group;
}

// ---- destroyed ------------------------------------------------------------------------------

Error Groups::destroy(Group* group, WhenBusy when_busy, uint64_t* left) {
  *left = 0;
  g_cache_children.flush_callbacks_of(*group);
  {
    MutexLock lock(mutex_);
    const GroupLife life = group->life();
    if (life != GroupLife::kLive || group->made_ != GroupMade::kByProgram)
      return life == GroupLife::kDying ? EALREADY : EINVAL;
    set_life_locked(*group, GroupLife::kDying);
  }
  // Nobody enters any more. Threads first: only when there are none are the counts final.
  const uint64_t threads = group->threads();
  const Group::InUse in_use = group->in_use();
  *left = in_use.objects + threads;
  if (*left != 0 && when_busy == WhenBusy::kRefuse) {
    g_hooks.group_destroy_refused({.number = group->number_,
                                   .first_id = group->base_,
                                   .name = group->name_,
                                   .objects = in_use.objects,
                                   .bytes = in_use.bytes,
                                   .threads = threads});
    MutexLock lock(mutex_);
    set_life_locked(*group, GroupLife::kLive);
    return EBUSY;
  }
  {
    MutexLock lock(mutex_);  // the name goes at once, whatever still waits
    set_life_locked(*group, *left != 0 ? GroupLife::kOffline : GroupLife::kRetiring);
    ++group->references_;
  }
  if (*left == 0)
    retire(*group);
  let_go(*group);
  g_cache_children.settle();
  return 0;
}

void Groups::release_unreachable() {
  // A thread that works in the orphans' slot holds its lock, which draining takes.
  if (ThreadCache::current() == nullptr)
    return;
  for (const auto& entry : groups_) {
    Group* group = entry.load(std::memory_order_acquire);
    if (group == nullptr)
      continue;
    {
      MutexLock lock(mutex_);
      const GroupLife life = group->life();
      const bool unreachable = life == GroupLife::kOffline ||
                               (life == GroupLife::kLive && group->made_ != GroupMade::kByProgram);
      if (!unreachable || group->threads() != 0 || group->in_use().objects != 0)
        continue;
      set_life_locked(*group, GroupLife::kRetiring);
      ++group->references_;
    }
    retire(*group);
    let_go(*group);
  }
}

// Nothing is in use: what is free goes, and what threads keep will go by itself.
void Groups::retire(Group& group) {
  group.for_each_child([](GroupChild& child, unsigned id) {
    if (!g_caches.has_slabs(id))
      return;
    child.draining.store(true, std::memory_order_seq_cst);
    for (KmemCache* cache : {&child.plain, &child.tracked}) {
      cache->set_keep_empty(KeepEmpty::kNone);
      (void)cache->shrink();
    }
  });
  request_drain();
  group.for_each_child([](GroupChild&, unsigned id) { g_threads.drain(id); });
  g_cache_children.retire_of(group);
}

void Groups::let_go(Group& group) {
  {
    MutexLock lock(mutex_);
    --group.references_;
  }
  try_finish(&group);
}

void Groups::try_finish(Group* group) {
  MutexLock lock(mutex_);
  if (group->life() != GroupLife::kRetiring || group->references_ != 0)
    return;
  bool done = group->cache_children_.load(std::memory_order_seq_cst) == 0;
  group->for_each_child([&](const GroupChild& child, unsigned) {
    done = done && child.holders.load(std::memory_order_seq_cst) == 0 && child.plain.slabs() == 0 &&
           child.tracked.slabs() == 0;
  });
  if (done)
    finish_locked(*group);
}

// Nobody has a bin, an object or a slab of it.
void Groups::finish_locked(Group& group) {
  CounterPair* ledger = ledger_;  // under the lock here, which the lambda does not know
  group.for_each_child([&](GroupChild& child, unsigned id) {
    const CounterPair total = g_threads.total(id);
    g_hooks.cache_changed(id, CacheLife::kFree);
    add_to_ledger(ledger, child, id - group.base_, total);
    g_threads.reset_counters(id);
    child.draining.store(false, std::memory_order_seq_cst);
    __atomic_store_n(&child.stats, nullptr, __ATOMIC_RELEASE);
  });
  set_life_locked(group, GroupLife::kFree);
}

void group_child_let_go(unsigned id) {
  auto* child = static_cast<GroupChild*>(g_caches.object_pair(id));
  if (child->holders.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
      child->draining.load(std::memory_order_seq_cst)) {
    g_groups.try_finish(child->group);
  }
}

unsigned Groups::leaving() {
  MutexLock lock(mutex_);
  unsigned count = 0;
  for (const auto& entry : groups_) {
    const Group* group = entry.load(std::memory_order_acquire);
    const GroupLife life = group == nullptr ? GroupLife::kFree : group->life();
    count += life == GroupLife::kOffline || life == GroupLife::kRetiring ? 1U : 0U;
  }
  return count;
}

}  // namespace slabscope
