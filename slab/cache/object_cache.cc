// SPDX-License-Identifier: MIT

#include "slab/cache/object_cache.h"

#include "slab/base/bits.h"
#include "slab/base/test_point.h"
#include "slab/cache/size_class.h"
#include "slab/cache/slab_walk.h"
#include "slab/cache/thread_registry.h"

namespace slabscope {
namespace {

constexpr size_t kLeastObject = 16;  // a place in a slab

}  // namespace

uint64_t ObjectCache::objects_in_use() const {
  const CounterPair total = sums().counts;
  return total.allocs - total.frees;
}

bool ObjectCache::leaving() const {
  const CacheLife now = life();
  return now == CacheLife::kZombie || now == CacheLife::kRetiring;
}

// What an object takes in its slab, its head not counted.
size_t ObjectCache::place_bytes(size_t size, size_t align) {
  return align_up(size < kLeastObject ? kLeastObject : size, align);
}

// id_, name_ and generation_ are set.
void ObjectCache::set_up(const ObjectCacheArgs& args, size_t align, uint64_t cookie) {
  constructor_ = args.constructor;
  destructor_ = args.destructor;
  grace_ = {};
  if ((args.flags & kTypesafe) != 0)
    grace_ = {.synchronize = args.rcu->update_synchronize_rcu, .barrier = args.rcu->barrier};
  // Readers may look at free objects of a typesafe cache: the list's link must not lie in them.
  const bool headed = keeps_state() || (args.flags & kDebug) != 0;
  const size_t zone = (args.flags & kRedZone) != 0 ? ObjectChecks::kLeastZone : 0;
  offset_ = headed ? static_cast<uint32_t>(align_up(sizeof(Head) + zone, align)) : 0;
  cookie_ = cookie;
  const size_t place = place_bytes(offset_ + args.size + zone, align);
  checks_ = checks_for(args, place);
  const size_t slab_bytes = SizeClass::slab_bytes(place);
  set_up_names(args, align);
  track_all = (args.flags & kStoreUser) != 0;
  const CacheInfo info{.id = id_,
                       .object_size = static_cast<uint32_t>(place),
                       .slab_bytes = static_cast<uint32_t>(slab_bytes),
                       .objects_per_slab = static_cast<uint32_t>(slab_bytes / place),
                       .name = name_,
                       .align = align_,
                       .flags = flags_,
                       .generation = generation_};
  unseen = {};
  CacheStats* record = g_hooks.cache_created(info);
  if (record == nullptr)
    record = &unseen;
  plain.init(id_, place, slab_bytes, Tracked::kNo, record);
  tracked.init(id_, place, slab_bytes, Tracked::kYes, record);
  for (KmemCache* cache : {&plain, &tracked}) {
    cache->set_object_place(offset_, checks_.tail());
    cache->set_keep_empty(headed ? KeepEmpty::kAll : KeepEmpty::kOne);
    cache->set_min_partial(1);
  }
  if (headed)
    plain.set_mapped_id(0);  // free() must not push what lies behind a head
  __atomic_store_n(&stats, record, __ATOMIC_RELEASE);
}

// What an alias has of its own, and other caches too.
void ObjectCache::set_up_names(const ObjectCacheArgs& args, size_t align) {
  flags_ = args.flags;
  align_ = static_cast<uint32_t>(align);
  size_.store(static_cast<uint32_t>(args.size), std::memory_order_relaxed);
  refused_.store(0, std::memory_order_relaxed);
  references_ = 0;
  release_at_ms_ = 0;
  __builtin_memset(reset_at_, 0, sizeof(reset_at_));
  shows_.open();
}

void ObjectCache::set_up_alias(ObjectCache* shared, const ObjectCacheArgs& args, size_t align) {
  set_up_names(args, align);
  constructor_ = nullptr;
  destructor_ = nullptr;
  grace_ = {};
  checks_ = {};
  offset_ = 0;
  target_.store(shared, std::memory_order_release);
  (void)g_hooks.cache_created({.id = id_,
                               .object_size = shared->plain.object_size(),
                               .slab_bytes = shared->plain.slab_bytes(),
                               .objects_per_slab = shared->plain.capacity(),
                               .name = name_,
                               .align = align_,
                               .flags = flags_,
                               .generation = generation_,
                               .parent = shared->id_});
  if (size() > shared->size())
    shared->size_.store(static_cast<uint32_t>(size()), std::memory_order_relaxed);
}

uint32_t ObjectCache::other_names() const {
  const uint32_t names = __atomic_load_n(&target()->aliases_, __ATOMIC_RELAXED);
  return names > 0 ? names - 1 : 0;
}

// From now on the fast paths serve; with a constructor it is the slow ones that do.
void ObjectCache::open_gate() {
  if (headed())
    return;
  const uint32_t id = target()->id_;
  mapped_id_.store(id, std::memory_order_relaxed);
  bin_offset_.store(static_cast<uint32_t>(id * sizeof(Bin)), std::memory_order_release);
}

unsigned ObjectCache::shrink() {
  if (is_alias())
    return target()->shrink();
  unsigned released = 0;
  for_each_part([&](ObjectPair& part, unsigned id) {
    g_threads.drain(id);
    released += typesafe() ? release_idle(part)
                : headed() ? release_empty(part.plain) + release_empty(part.tracked)
                           : part.plain.shrink() + part.tracked.shrink();
  });
  if (released != 0)
    g_hooks.event({HeapEvent::Kind::kShrunk, id_, released, nullptr});
  if (leaving())
    g_object_caches.try_finish(this);
  return released;
}

// What is empty now, and is still so after a grace period.
unsigned ObjectCache::release_idle(ObjectPair& part) {
  const uint32_t plain_mark = part.plain.mark_idle();
  const uint32_t tracked_mark = part.tracked.mark_idle();
  grace_.wait();
  unsigned released = 0;
  for (KmemCache* cache : {&part.plain, &part.tracked}) {
    const uint32_t mark = cache == &part.plain ? plain_mark : tracked_mark;
    for (Slab* slab = cache->take_idle(mark); slab != nullptr; slab = cache->take_idle(mark)) {
      destruct_slab(*cache, slab);
      cache->release_slab(slab);
      ++released;
    }
  }
  return released;
}

// Each free comes to the slow path from now on, whoever frees: the last one must be seen.
void ObjectCache::send_frees_to_slow_path() {
  mapped_id_.store(kNoId, std::memory_order_seq_cst);
  for_each_part([this](ObjectPair& part, unsigned) {
    part.plain.set_mapped_id(0);
    if (part.plain.slabs() != 0 && !headed())
      for_each_slab(part.plain, [&](Slab* slab) { part.plain.remap(slab); });
  });
}

// What is free in the cache, or in a child of it, is destructed and goes.
void ObjectCache::retire_part(ObjectPair& part) {
  for (KmemCache* cache : {&part.plain, &part.tracked}) {
    if (headed() && cache->slabs() > 0)
      for_each_slab(*cache, [&](Slab* slab) { destruct_slab(*cache, slab); });
    cache->set_keep_empty(KeepEmpty::kNone);
    (void)cache->shrink();
  }
}

void ObjectCache::drain_parts() {
  for_each_part([](ObjectPair&, unsigned id) { g_threads.drain(id); });
}

// The decision is made: what is free goes, and what becomes free will go by itself. Of a typesafe
// cache nothing goes before its readers have left. What was free when the wait began cannot be
// found by readers that come later, also if it lies on some thread's list and comes back late; what
// a zombie has in use can, so its memory stays whole until ObjectCaches::settle() calls again.
void ObjectCache::retire() {
  SC_TEST_POINT(kDestroyQuiet, id_);
  g_cache_children.leave(*this);
  send_frees_to_slow_path();
  const bool wait = typesafe() && life() == CacheLife::kZombie;
  if (typesafe() && !wait)
    grace_.wait();
  for_each_part([&](ObjectPair& part, unsigned) {
    if (!wait)
      retire_part(part);
  });
  g_cache_children.for_each(*this, [](CacheChild& child) { g_cache_children.settled(child); });
  request_drain();
  drain_parts();
}

// The same, where the thread that was at it does not exist. What it had not destructed stays so:
// destructors are the program's, and do not belong into a fork handler.
void ObjectCache::retire_in_child() {
  g_cache_children.leave(*this);
  send_frees_to_slow_path();
  for_each_part([this](ObjectPair& part, unsigned) {
    for (KmemCache* cache : {&part.plain, &part.tracked}) {
      if (typesafe())
        continue;
      cache->set_keep_empty(KeepEmpty::kNone);
      (void)cache->shrink();
    }
  });
  g_cache_children.for_each(*this, [](CacheChild& child) { g_cache_children.settled(child); });
  request_drain();
}

// ---- what can be reset ----------------------------------------------------------------------

uint64_t ObjectCache::counted_since_creation(ResettableStat stat) const {
  const PartSums all = sums();
  const CacheStats& kept = all.stats;
  switch (stat) {
    case ResettableStat::kFastAllocs: {
      const uint64_t allocs = all.counts.allocs;
      const uint64_t slow = stat_get(kept.slow_allocations);
      return allocs > slow ? allocs - slow : 0;
    }
    case ResettableStat::kSlowAllocs:
      return stat_get(kept.slow_allocations);
    case ResettableStat::kGrown:
      return stat_get(kept.slabs_grown);
    case ResettableStat::kReleased:
      return stat_get(kept.slabs_released);
    case ResettableStat::kRemote:
      return stat_get(kept.remote_frees);
    case ResettableStat::kCount:
      break;
  }
  return 0;
}

uint64_t ObjectCache::resettable(ResettableStat stat) const {
  const uint64_t now = counted_since_creation(stat);
  const uint64_t at = __atomic_load_n(&reset_at_[static_cast<unsigned>(stat)], __ATOMIC_RELAXED);
  return now > at ? now - at : 0;
}

void ObjectCache::reset(ResettableStat stat) {
  __atomic_store_n(&reset_at_[static_cast<unsigned>(stat)], counted_since_creation(stat),
                   __ATOMIC_RELAXED);
}

void object_cache_let_go(unsigned id) {
  ObjectCache* cache = object_cache(id);
  if (cache->holders.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
      cache->draining.load(std::memory_order_seq_cst)) {
    g_object_caches.try_finish(cache);
  }
}

}  // namespace slabscope
