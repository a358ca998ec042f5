// SPDX-License-Identifier: MIT
//
// All object caches: names, births, aliases, and who looks at them. object_caches_end.cc has the
// rest of their lives.

#include <cerrno>
#include <new>

#include "slab/base/bits.h"
#include "slab/base/clock.h"
#include "slab/base/panic.h"
#include "slab/base/test_point.h"
#include "slab/cache/debug_spec.h"
#include "slab/cache/object_cache.h"
#include "slab/cache/thread_registry.h"
#include "slab/pages/meta.h"

namespace slabscope {
namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kLeastAlign = 8;
constexpr uint32_t kKnownFlags = ObjectCache::kDebug | ObjectCache::kHardwareAlign |
                                 ObjectCache::kStoreUser | ObjectCache::kTypesafe |
                                 ObjectCache::kMerge;
constexpr char kSharedMark = ':';  // begins the names of shared caches, and no other's

// 0, or why the name cannot be one.
Error check_name(const char* name) {
  const Error error = check_given_name(name);
  return error == 0 && name[0] == kSharedMark ? EINVAL : error;
}

bool starts_with(const char* text, const char* start) {
  return __builtin_strncmp(text, start, __builtin_strlen(start)) == 0;
}

// What objects are aligned to; 0 if it cannot be.
size_t alignment_for(const ObjectCacheArgs& args) {
  size_t align = args.align;
  if (align == 0)
    align = args.size % Config::kGranule == 0 ? size_t{Config::kGranule} : kLeastAlign;
  if (!is_power_of_two(align) || align > Config::kChunk)
    return 0;
  if ((args.flags & ObjectCache::kHardwareAlign) != 0) {
    size_t line = kCacheLine;  // or a fraction of one that several small objects share
    while (args.size <= line / 2 && line > kLeastAlign)
      line /= 2;
    align = align < line ? line : align;
  }
  return align < kLeastAlign ? kLeastAlign : align;
}

// 0, or why there cannot be such a cache.
Error check_args(const ObjectCacheArgs& args, size_t align) {
  const Error error = check_name(args.name);
  if (error != 0)
    return error;
  const bool typesafe = (args.flags & ObjectCache::kTypesafe) != 0;
  const bool waits = args.rcu != nullptr && args.rcu->update_synchronize_rcu != nullptr;
  const bool sized = args.size != 0 && args.size <= ObjectCache::kMaxSize && align != 0;
  return sized && (args.flags & ~kKnownFlags) == 0 && (!typesafe || waits) ? 0 : EINVAL;
}

// A merged cache cannot keep for each of its users what these ask for.
bool may_merge(const ObjectCacheArgs& args) {
  return (args.flags & ObjectCache::kMerge) != 0 &&
         (args.flags & (ObjectCache::kDebug | ObjectCache::kStoreUser | ObjectCache::kTypesafe)) ==
             0 &&
         args.constructor == nullptr && args.destructor == nullptr;
}

}  // namespace

constinit ObjectCaches g_object_caches;

// ---- names and records ----------------------------------------------------------------------

bool ObjectCaches::name_taken_locked(const char* name) {
  if (starts_with(name, "malloc-") || __builtin_strcmp(name, "slabscope") == 0)
    return true;
  for (const ObjectCache& cache : all_object_caches()) {
    const CacheLife life = cache.life();
    if ((life == CacheLife::kNew || life == CacheLife::kLive || life == CacheLife::kDying) &&
        __builtin_strcmp(cache.name_, name) == 0) {
      return true;
    }
  }
  return false;
}

// ":0000064", and a number if something of that name is still to be seen, alive or not.
void ObjectCaches::name_shared_locked(ObjectCache* cache, size_t place) {
  unsigned instance = 1;
  for (bool taken = true; taken; ++instance) {
    char digits[8];
    for (size_t i = sizeof(digits) - 1, rest = place; i-- > 0; rest /= 10)
      digits[i] = static_cast<char>('0' + rest % 10);
    digits[sizeof(digits) - 1] = '\0';
    Line name;
    name.text(":").text(digits);
    if (instance > 1)
      name.text("~").decimal(instance);
    __builtin_memcpy(cache->name_, name.c_str(), name.size() + 1);
    taken = false;
    for (const ObjectCache& other : all_object_caches()) {
      taken = taken || (&other != cache && other.life() != CacheLife::kFree &&
                        __builtin_strcmp(other.name_, cache->name_) == 0);
    }
  }
}

// An unused one, the longest unused first, or one with a fresh id; kNew from now on.
ObjectCache* ObjectCaches::new_locked(Error* error) {
  ObjectCache* cache = unused_first_;
  if (cache != nullptr) {
    unused_first_ = cache->next_unused_;
    if (unused_first_ == nullptr)
      unused_last_ = nullptr;
    ++cache->generation_;
  } else {
    const bool room = g_caches.limit() < Config::kMaxCaches;
    void* memory = room ? meta_allocate(sizeof(ObjectCache)) : nullptr;
    const unsigned id = memory == nullptr ? 0 : g_caches.reserve_ids(1);
    if (id == 0) {
      *error = room && memory == nullptr ? ENOMEM : ENOSPC;
      return nullptr;
    }
    cache = new (memory) ObjectCache;
    cache->id_ = id;
    g_caches.add_object_pair(id, cache);
  }
  cache->life_.store(CacheLife::kNew, std::memory_order_seq_cst);
  return cache;
}

// ---- birth ----------------------------------------------------------------------------------

// A new cache of that name; null: it is to be a shared one, which gets its name here. kNew.
ObjectCache* ObjectCaches::reserve(const char* name, Error* error) {
  MutexLock lock(mutex_);
  if (name != nullptr && name_taken_locked(name)) {
    *error = EEXIST;
    return nullptr;
  }
  ObjectCache* cache = new_locked(error);
  if (cache != nullptr && name != nullptr)
    __builtin_memcpy(cache->name_, name, __builtin_strlen(name) + 1);  // checked
  return cache;
}

// Makes a reserved cache live, with a first alias or as it is; without memory it is free again: it
// was never used, so there is nothing to shut down.
bool ObjectCaches::bring_up(ObjectCache* cache, const ObjectCacheArgs& args, size_t align,
                            ObjectCache* alias, Error* error) {
  SC_TEST_POINT(kCreateNamed, cache->id_);
  // Slots that open from now on see the id; those that are open get their page here.
  const bool ready = g_threads.prepare_counters(cache->id_);
  MutexLock lock(mutex_);
  if (!ready) {
    finish_locked(cache);
    *error = ENOMEM;
    return false;
  }
  ++cookies_;
  cache->shared_ = alias != nullptr;
  cache->aliases_ = 0;
  if (alias != nullptr)
    name_shared_locked(cache, ObjectCache::place_bytes(args.size, align));
  cache->set_up(args, align, (monotonic_ns() + cookies_) * 0xbf58476d1ce4e5b9);
  set_life_locked(cache, CacheLife::kLive);
  cache->open_gate();
  if (alias != nullptr)
    attach_locked(alias, cache, args, align);
  return true;
}

void ObjectCaches::set_debug(const char* spec) {
  const size_t bytes = __builtin_strlen(spec) + 1;
  auto* copy = static_cast<char*>(meta_allocate(bytes));
  if (copy == nullptr)
    return;
  __builtin_memcpy(copy, spec, bytes);
  __atomic_store_n(&debug_spec_, copy, __ATOMIC_RELEASE);
}

ObjectCache* ObjectCaches::create(const ObjectCacheArgs& given, Error* error) {
  const size_t align = alignment_for(given);
  *error = check_args(given, align);
  if (*error != 0)
    return nullptr;
  (void)g_threads.current_or_start();  // boots, if this is the program's first step of all
  ObjectCacheArgs args = given;
  args.flags |= debug_flags_for(__atomic_load_n(&debug_spec_, __ATOMIC_ACQUIRE), args.name);
  settle();
  if (may_merge(args))
    return create_merged(args, align, error);
  ObjectCache* cache = reserve(args.name, error);
  return cache != nullptr && bring_up(cache, args, align, nullptr, error) ? cache : nullptr;
}

// An alias of the shared cache of that geometry, which is made if there is none.
ObjectCache* ObjectCaches::create_merged(const ObjectCacheArgs& args, size_t align, Error* error) {
  ObjectCache* alias = reserve(args.name, error);
  if (alias == nullptr)
    return nullptr;
  {
    MutexLock lock(mutex_);
    ObjectCache* shared = find_mergeable_locked(args, align);
    if (shared != nullptr) {
      attach_locked(alias, shared, args, align);
      return alias;
    }
  }
  ObjectCache* shared = reserve(nullptr, error);
  if (shared != nullptr && bring_up(shared, args, align, alias, error))
    return alias;
  MutexLock lock(mutex_);
  finish_locked(alias);
  return nullptr;
}

// Not one that is dying: its last alias is leaving it.
ObjectCache* ObjectCaches::find_mergeable_locked(const ObjectCacheArgs& args, size_t align) {
  const size_t place = ObjectCache::place_bytes(args.size, align);
  for (ObjectCache& cache : all_object_caches()) {
    if (cache.life() == CacheLife::kLive && cache.shared_ && cache.plain.object_size() == place &&
        cache.align_ >= align) {
      return &cache;
    }
  }
  return nullptr;
}

void ObjectCaches::attach_locked(ObjectCache* alias, ObjectCache* shared,
                                 const ObjectCacheArgs& args, size_t align) {
  __atomic_store_n(&shared->aliases_, shared->aliases_ + 1, __ATOMIC_RELAXED);
  alias->set_up_alias(shared, args, align);
  set_life_locked(alias, CacheLife::kLive);
  alias->open_gate();
}

// ---- who looks ------------------------------------------------------------------------------

// An alias is nothing without what it is an alias of.
ObjectCache* ObjectCaches::hold_locked(ObjectCache* cache) {
  ++cache->references_;
  if (cache->is_alias())
    ++cache->target()->references_;
  return cache;
}

ObjectCache* ObjectCaches::hold_next(unsigned id) {
  MutexLock lock(mutex_);
  if (id < Config::kFirstObjectId)
    id = Config::kFirstObjectId;
  for (ObjectCache* cache = object_cache_from(id); cache != nullptr;
       cache = object_cache_from(cache->id_ + 1)) {
    if (cache->life() == CacheLife::kLive && !cache->is_shared())
      return hold_locked(cache);
  }
  return nullptr;
}

ObjectCache* ObjectCaches::hold_named(const char* name) {
  MutexLock lock(mutex_);
  for (ObjectCache& cache : all_object_caches()) {
    if (cache.life() == CacheLife::kLive && __builtin_strcmp(cache.name_, name) == 0)
      return hold_locked(&cache);
  }
  return nullptr;
}

void ObjectCaches::let_go(ObjectCache* cache) {
  ObjectCache* shared = nullptr;
  {
    MutexLock lock(mutex_);
    shared = cache->is_alias() ? cache->target() : nullptr;
    for (ObjectCache* held : {cache, shared}) {
      if (held != nullptr && held->references_ > 0)
        --held->references_;
    }
  }
  try_finish(cache);
  if (shared != nullptr)
    try_finish(shared);
}

template <typename Count>
unsigned ObjectCaches::sum(Count count) {
  MutexLock lock(mutex_);
  unsigned total = 0;
  for (const ObjectCache& cache : all_object_caches())
    total += count(cache);
  return total;
}

unsigned ObjectCaches::leaving() {
  return sum([](const ObjectCache& cache) { return cache.leaving() ? 1U : 0U; });
}

unsigned ObjectCaches::in_use() {
  return sum([](const ObjectCache& cache) { return cache.life() != CacheLife::kFree ? 1U : 0U; });
}

unsigned ObjectCaches::held() {
  return sum([](const ObjectCache& cache) { return cache.references_ + cache.shows_.inside(); });
}

}  // namespace slabscope
