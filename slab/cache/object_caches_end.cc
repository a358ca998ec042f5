// SPDX-License-Identifier: MIT
//
// How object caches end. The order is the one rule here:
//
//   condemn: DYING ─► drain what can be drained ─► judge ─┬─► refused: LIVE again, as it was
//                                                         └─► unlink (names go) ─► shows have left
//     ─► retire (a grace period, slabs go back) ─► the last bin, slab, reference ─► finish

#include <cerrno>

#include "slab/base/clock.h"
#include "slab/base/test_point.h"
#include "slab/cache/object_cache.h"
#include "slab/cache/thread_registry.h"

namespace slabscope {
namespace {

uint64_t now_ms() {
  return monotonic_ns() / 1'000'000;
}

}  // namespace

void ObjectCaches::set_life_locked(ObjectCache* cache, CacheLife life) {
  cache->life_.store(life, std::memory_order_seq_cst);
  g_hooks.cache_changed(cache->id_, life);
}

void ObjectCaches::revive_locked(ObjectCache* cache) {
  g_cache_children.set_draining(*cache, false);
  set_life_locked(cache, CacheLife::kLive);
  cache->open_gate();
}

// Marks as dying what `handle` names: the cache, if this is its last name, else the name alone.
Error ObjectCaches::condemn(ObjectCache* handle, bool* last) {
  MutexLock lock(mutex_);
  const CacheLife life = handle->life();
  if (life != CacheLife::kLive)
    return life == CacheLife::kDying ? EALREADY : EINVAL;
  if (handle->is_shared())
    return EINVAL;  // goes with its last alias
  ObjectCache* cache = handle->target();
  *last = !handle->is_alias() || cache->aliases_ == 1;
  set_life_locked(handle, CacheLife::kDying);
  handle->close_gate();
  if (*last && handle->is_alias()) {
    set_life_locked(cache, CacheLife::kDying);
    cache->close_gate();
  }
  if (!*last)  // under the same lock: the next one to ask may be the last
    __atomic_store_n(&cache->aliases_, cache->aliases_ - 1, __ATOMIC_RELAXED);
  return 0;
}

// The decision is made. The name goes at once, whatever still waits; `busy`: as a zombie's. Then
// shows that are inside are waited for, with no lock that one of them could take.
void ObjectCaches::unlink(ObjectCache* handle, bool busy) {
  {
    MutexLock lock(mutex_);
    set_life_locked(handle, busy ? CacheLife::kZombie : CacheLife::kRetiring);
    hold_locked(handle);
  }
  SC_TEST_POINT(kDestroyUnlinked, handle->id_);
  handle->shows_.remove_and_wait();
}

Error ObjectCaches::destroy(ObjectCache* handle, WhenBusy when_busy, uint64_t* left) {
  *left = 0;
  settle();
  // What the program gave to call_rcu() may be frees of objects: they are not in use.
  if (handle->life() == CacheLife::kLive && handle->typesafe())
    handle->grace_.flush_callbacks();
  bool last = true;
  const Error error = condemn(handle, &last);
  if (error != 0)
    return error;
  ObjectCache* cache = handle->target();
  SC_TEST_POINT(kDestroyDying, cache->id_);
  if (!last) {
    unlink(handle, false);
    let_go(handle);
    return 0;
  }
  // Nothing is handed out any more; what free objects others have, they bring back when they can.
  g_cache_children.set_draining(*cache, true);
  request_drain();
  cache->drain_parts();
  *left = cache->objects_in_use();
  SC_TEST_POINT(kDestroyJudged, cache->id_);
  if (*left != 0 && when_busy == WhenBusy::kRefuse) {
    g_hooks.destroy_refused({.id = cache->id_,
                             .name = handle->name_,
                             .object_size = static_cast<uint32_t>(cache->size()),
                             .objects = *left});
    MutexLock lock(mutex_);
    revive_locked(cache);
    if (handle != cache)
      revive_locked(handle);
    return EBUSY;
  }
  const bool busy = *left != 0;
  if (handle != cache) {
    cache->last_alias_ = busy ? handle : nullptr;
    unlink(handle, busy);
  }
  unlink(cache, busy);
  cache->retire();
  if (busy && cache->typesafe())
    unsettled_.store(1, std::memory_order_release);
  SC_TEST_POINT(kDestroyRetired, cache->id_);
  if (handle != cache)
    let_go(handle);
  let_go(cache);
  return 0;
}

bool ObjectCaches::may_finish_locked(ObjectCache* cache) {
  if (!cache->leaving() || cache->references_ != 0)
    return false;
  if (cache->is_alias())  // a zombie's alias goes with it, so that objects can be freed through it
    return cache->life() == CacheLife::kRetiring && is_due_locked(cache);
  return cache->child_count_.load(std::memory_order_seq_cst) == 0 &&
         cache->holders.load(std::memory_order_seq_cst) == 0 && cache->plain.slabs() == 0 &&
         cache->tracked.slabs() == 0 && is_due_locked(cache);
}

// With a release delay each release waits for a time of its own, and settle() comes back to it.
bool ObjectCaches::is_due_locked(ObjectCache* cache) {
  const uint32_t delay = __atomic_load_n(&release_delay_ms_, __ATOMIC_RELAXED);
  if (delay == 0)
    return true;
  const uint64_t now = now_ms();
  if (cache->release_at_ms_ == 0) {
    const uint64_t random = (monotonic_ns() + ++cookies_) * 0x9e3779b97f4a7c15 >> 32;
    cache->release_at_ms_ = now + 1 + random % delay;
  }
  if (now >= cache->release_at_ms_)
    return true;
  unsettled_.store(1, std::memory_order_release);
  return false;
}

void ObjectCaches::try_finish(ObjectCache* cache) {
  {
    MutexLock lock(mutex_);
    if (!may_finish_locked(cache))
      return;
    finish_locked(cache);
  }
  SC_TEST_POINT(kReleased, cache->id_);
}

// Nobody has a bin, an object or a slab of it.
void ObjectCaches::finish_locked(ObjectCache* cache) {
  set_life_locked(cache, CacheLife::kFree);
  __atomic_store_n(&cache->stats, nullptr, __ATOMIC_RELEASE);
  if (!cache->is_alias())
    g_threads.reset_counters(cache->id_);
  cache->draining.store(false, std::memory_order_seq_cst);
  cache->name_[0] = '\0';
  cache->target_.store(nullptr, std::memory_order_release);
  cache->shared_ = false;
  cache->grace_ = {};
  cache->next_unused_ = nullptr;
  if (unused_last_ != nullptr) {
    unused_last_->next_unused_ = cache;
  } else {
    unused_first_ = cache;
  }
  unused_last_ = cache;
  ObjectCache* alias = cache->last_alias_;
  cache->last_alias_ = nullptr;
  if (alias == nullptr)
    return;
  set_life_locked(alias, CacheLife::kRetiring);
  if (may_finish_locked(alias))
    finish_locked(alias);
}

// What settle() has to do outside the lock next; what it can do under it, it has done.
ObjectCache* ObjectCaches::next_settled_locked() {
  unsettled_.store(0, std::memory_order_relaxed);
  ObjectCache* found = nullptr;
  for (ObjectCache& cache : all_object_caches()) {
    if (!cache.leaving())
      continue;
    if (cache.release_at_ms_ != 0 && may_finish_locked(&cache)) {
      finish_locked(&cache);
    } else if (cache.typesafe() && cache.life() == CacheLife::kZombie) {
      if (found == nullptr && cache.objects_in_use() == 0) {
        found = &cache;
      } else {
        unsettled_.store(1, std::memory_order_relaxed);
      }
    }
  }
  if (found != nullptr) {
    set_life_locked(found, CacheLife::kRetiring);
    ++found->references_;
    unsettled_.store(1, std::memory_order_relaxed);
  }
  return found;
}

void ObjectCaches::settle() {
  g_cache_children.settle();
  while (unsettled_.load(std::memory_order_acquire) != 0) {
    ObjectCache* zombie = nullptr;
    {
      MutexLock lock(mutex_);
      zombie = next_settled_locked();
    }
    if (zombie == nullptr)
      return;
    zombie->retire();
    let_go(zombie);
  }
}

// ---- fork -----------------------------------------------------------------------------------

// In the child: what another thread was doing to this cache is undone or done.
void ObjectCaches::reset_one_after_fork(ObjectCache* cache) SC_NO_THREAD_ANALYSIS {
  cache->references_ = 0;
  cache->shows_.reset_after_fork();
  cache->holders.store(g_threads.count_bins(cache->id_), std::memory_order_seq_cst);
  if (cache->life() == CacheLife::kNew) {
    finish_locked(cache);
  } else if (cache->life() == CacheLife::kDying) {
    revive_locked(cache);
  } else if (cache->leaving()) {
    if (cache->typesafe()) {  // its grace period may not have been waited for: again, by settle()
      set_life_locked(cache, CacheLife::kZombie);
      unsettled_.store(1, std::memory_order_relaxed);
    }
    if (!cache->is_alias())
      cache->retire_in_child();
    try_finish(cache);
  }
}

void ObjectCaches::reset_after_fork() SC_NO_THREAD_ANALYSIS {
  mutex_.reset_after_fork();
  g_object_checks_mutex.reset_after_fork();
  for (ObjectCache& cache : all_object_caches())
    reset_one_after_fork(&cache);
  for (ObjectCache& cache : all_object_caches())
    cache.aliases_ = 0;
  for (ObjectCache& cache : all_object_caches()) {
    if (cache.is_alias() && cache.life() == CacheLife::kLive)
      ++cache.target()->aliases_;
  }
}

}  // namespace slabscope
