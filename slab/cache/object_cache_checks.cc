// SPDX-License-Identifier: MIT
//
// ObjectCache where it is debugged: objects change hands under one lock, with a look at what lies
// around and in them.
//
//   place that was never used ─► filled, constructed ─► look ─► IN USE ─► free: look ─► FREE ─► …
//                                                                     validate: look at all
//
// The mark before each object (object_cache.h) says what it is, and changes with what is filled.

#include "slab/base/panic.h"
#include "slab/cache/object_cache.h"
#include "slab/cache/record_table.h"
#include "slab/cache/slab_walk.h"

namespace slabscope {

using State = ObjectChecks::State;
using Part = ObjectChecks::Part;

// Linux poisons neither what a constructor made nor what readers may look at.
ObjectChecks ObjectCache::checks_for(const ObjectCacheArgs& args, size_t place) const {
  const bool poison = (args.flags & kPoison) != 0;
  return ObjectChecks({.head = sizeof(Head),
                       .object = offset_,
                       .size = static_cast<uint32_t>(args.size),
                       .place = static_cast<uint32_t>(place),
                       .red_zone = (args.flags & kRedZone) != 0,
                       .poison_object = poison && !keeps_state(),
                       .poison_padding = poison});
}

// The record of an object in use, or 0.
uint32_t ObjectCache::record_of(const KmemCache& cache, const Slab* slab, const void* place) {
  if (!cache.tracked())
    return 0;
  const uint32_t record =
      __atomic_load_n(&slab->records[cache.index_of(slab, place)], __ATOMIC_RELAXED);
  return record == kUnrecorded ? 0 : record;
}

void ObjectCache::damaged(const ObjectChecks::Damage& damage, const void* object,
                          uint32_t record) const {
  Line detail;
  detail.text(name_, kNameBytes).text(": ");
  if (damage.part == Part::kPadding) {
    detail.text("padding at ");
  } else if (damage.part != Part::kObject) {
    detail.text("red zone at ");
  }
  detail.text("offset ").text(damage.offset < 0 ? "-" : "");
  detail.decimal(static_cast<uint64_t>(damage.offset < 0 ? -damage.offset : damage.offset));
  detail.text(" holds ").hex(damage.found).text(", not ").hex(damage.expected);
  detail.text("; ").decimal(damage.bytes).text(damage.bytes == 1 ? " byte" : " bytes");
  if (damage.state == State::kFree && damage.part != Part::kObject)
    detail.text(", while it was free");
  char where[256];
  if (record != 0 && g_hooks.allocation_place(record, where, sizeof(where)) > 0)
    detail.text("; allocated at ").text(where, sizeof(where));
  panic(damage.part == Part::kObject   ? "write after free to"
        : damage.part == Part::kBefore ? "write before"
                                       : "write behind",
        object, detail.c_str());
}

// The object in `place` is in use from now on, if it is as it was left. False: it must be prepared
// first; once it is, that holds whatever the mark says.
bool ObjectCache::take_checked(void* place, bool prepared, ObjectChecks::Damage* damage) {
  auto& mark = static_cast<Head*>(place)->mark;
  const uint64_t free = free_mark(place);
  MutexLock lock(g_object_checks_mutex);
  if (!prepared && mark.load(std::memory_order_relaxed) != free)
    return false;
  *damage = checks_.look(place, State::kFree);
  if (damage->part == Part::kNone) {
    checks_.fill(place, State::kInUse);
    mark.store(used_mark(free), std::memory_order_relaxed);
  }
  return true;
}

void* ObjectCache::hand_out_checked(void* place) {
  ObjectChecks::Damage damage;
  if (!take_checked(place, false, &damage)) {
    if (leaving())
      return nullptr;
    checks_.fill(place, State::kFree);
    if (constructor_ != nullptr)
      constructor_(object_in(place));
    (void)take_checked(place, true, &damage);
  }
  if (SC_UNLIKELY(damage.part != Part::kNone))
    damaged(damage, object_in(place), 0);
  return object_in(place);
}

// What the mark says before the object is free. It is only if it was in use.
uint64_t ObjectCache::take_back_checked(const KmemCache& cache, const Slab* slab, void* place) {
  auto& mark = static_cast<Head*>(place)->mark;
  const uint64_t free = free_mark(place);
  ObjectChecks::Damage damage;
  uint64_t found = 0;
  {
    MutexLock lock(g_object_checks_mutex);
    found = mark.load(std::memory_order_relaxed);
    if (SC_UNLIKELY(found != used_mark(free)))
      return found;
    damage = checks_.look(place, State::kInUse);
    if (damage.part == Part::kNone) {
      checks_.fill(place, State::kFree);
      mark.store(free, std::memory_order_seq_cst);
    }
  }
  if (SC_UNLIKELY(damage.part != Part::kNone))
    damaged(damage, object_in(place), record_of(cache, slab, place));
  return found;
}

// As destruct(), up to the destructor.
bool ObjectCache::leave_checked(void* place) {
  auto& mark = static_cast<Head*>(place)->mark;
  ObjectChecks::Damage damage;
  {
    MutexLock lock(g_object_checks_mutex);
    if (mark.load(std::memory_order_relaxed) != free_mark(place))
      return false;
    damage = checks_.look(place, State::kFree);
    if (damage.part == Part::kNone)
      mark.store(0, std::memory_order_seq_cst);
  }
  if (SC_UNLIKELY(damage.part != Part::kNone))
    damaged(damage, object_in(place), 0);
  return true;
}

// A slab is this cache's as long as the lock is held: who releases it takes the lock for each place
// first, after it has taken the slab away.
void ObjectCache::validate_slab(const KmemCache& cache, const Slab* slab) {
  ObjectChecks::Damage damage;
  char* place = nullptr;
  {
    MutexLock lock(g_object_checks_mutex);
    if (slab->cache.load(std::memory_order_acquire) != &cache)
      return;
    const uint32_t carved = slab->load().carved;
    for (uint32_t i = 0; i < carved && damage.part == Part::kNone; ++i) {
      place = slab->base + size_t{i} * cache.object_size();
      const uint64_t mark = static_cast<Head*>(static_cast<void*>(place))->mark.load();
      const uint64_t free = free_mark(place);
      if (mark == free)
        damage = checks_.look(place, State::kFree);
      else if (mark == used_mark(free))
        damage = checks_.look(place, State::kInUse);
    }
  }
  if (SC_UNLIKELY(damage.part != Part::kNone)) {
    const bool used = damage.state == State::kInUse;
    damaged(damage, object_in(place), used ? record_of(cache, slab, place) : 0);
  }
}

void ObjectCache::validate() {
  for_each_part([this](ObjectPair& part, unsigned) {
    for (KmemCache* cache : {&part.plain, &part.tracked}) {
      cache->validate();
      if (checks_.any() && cache->slabs() != 0)
        for_each_slab(*cache, [&](Slab* slab) { validate_slab(*cache, slab); });
    }
  });
}

}  // namespace slabscope
