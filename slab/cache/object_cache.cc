// SPDX-License-Identifier: MIT

#include "slab/cache/object_cache.h"

#include <cerrno>
#include <new>

#include "slab/base/bits.h"
#include "slab/base/clock.h"
#include "slab/cache/size_class.h"
#include "slab/cache/thread_registry.h"
#include "slab/pages/meta.h"
#include "slab/pages/page_map.h"

namespace slabscope {
namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kLeastObject = 16;  // a place in a slab
constexpr size_t kLeastAlign = 8;
constexpr uint32_t kKnownFlags = ObjectCache::kHardwareAlign | ObjectCache::kStoreUser;

// 0, or why the name cannot be one: it stands in tables, labels and paths.
Error check_name(const char* name) {
  if (name == nullptr || name[0] == '\0')
    return EINVAL;
  size_t length = 0;
  for (; name[length] != '\0'; ++length) {
    const auto c = static_cast<unsigned char>(name[length]);
    if (c <= ' ' || c == 0x7f || c == '/')
      return EINVAL;
    if (length == ObjectCache::kNameBytes - 1)
      return ENAMETOOLONG;
  }
  return 0;
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

// Calls visit(slab) for each slab of `cache`. It may see one that leaves meanwhile.
template <typename Visit>
void for_each_slab(const KmemCache& cache, Visit visit) {
  const size_t top = g_page_map.chunk_top();
  const Slab* last = nullptr;
  for (size_t i = 0; i < top; ++i) {
    const Chunk* chunk = g_page_map.chunk(i);
    if (chunk == nullptr) {
      i |= Config::kChunksPerSegment - 1;
      continue;
    }
    if (chunk->kind.load(std::memory_order_acquire) != ChunkKind::kSlab)
      continue;
    Slab* slab = __atomic_load_n(&chunk->slab, __ATOMIC_RELAXED);
    if (slab == last || slab->cache.load(std::memory_order_acquire) != &cache)
      continue;
    last = slab;
    visit(slab);
  }
}

}  // namespace

constinit ObjectCaches g_object_caches;

// ---- one cache ------------------------------------------------------------------------------

uint64_t ObjectCache::objects_in_use() const {
  const CounterPair total = g_threads.total(id_);
  return total.allocs - total.frees;
}

bool ObjectCache::leaving() const {
  const CacheLife now = life();
  return now == CacheLife::kZombie || now == CacheLife::kRetiring;
}

// `id`, name_ and generation_ are set.
void ObjectCache::set_up(unsigned id, const ObjectCacheArgs& args, size_t align, uint64_t cookie) {
  id_ = id;
  flags_ = args.flags;
  align_ = static_cast<uint32_t>(align);
  size_ = static_cast<uint32_t>(args.size);
  constructor_ = args.constructor;
  destructor_ = args.destructor;
  cookie_ = cookie;
  refused_.store(0, std::memory_order_relaxed);
  references_ = 0;
  track_all = (args.flags & kStoreUser) != 0;
  offset_ = constructs() ? static_cast<uint32_t>(align_up(sizeof(Head), align)) : 0;
  size_t place = offset_ + args.size;
  place = align_up(place < kLeastObject ? kLeastObject : place, align);
  const size_t slab_bytes = SizeClass::slab_bytes(place);
  const CacheInfo info{.id = id,
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
  plain.init(id, place, slab_bytes, Tracked::kNo, record);
  tracked.init(id, place, slab_bytes, Tracked::kYes, record);
  for (KmemCache* cache : {&plain, &tracked}) {
    cache->set_object_offset(offset_);
    cache->set_keep_empty(constructs() ? KeepEmpty::kAll : KeepEmpty::kOne);
  }
  if (constructs())
    plain.set_mapped_id(0);  // free() must not push what lies behind a head
  __atomic_store_n(&stats, record, __ATOMIC_RELEASE);
}

// From now on the fast paths serve; with a constructor it is the slow ones that do.
void ObjectCache::open_gate() {
  if (constructs())
    return;
  mapped_id_.store(id_, std::memory_order_relaxed);
  bin_offset_.store(static_cast<uint32_t>(id_ * sizeof(Bin)), std::memory_order_release);
}

unsigned ObjectCache::shrink() {
  g_threads.drain(id_);
  const unsigned released = constructs() ? release_empty(plain) + release_empty(tracked)
                                         : plain.shrink() + tracked.shrink();
  if (released != 0)
    g_hooks.event({HeapEvent::Kind::kShrunk, id_, released, nullptr});
  if (leaving())
    g_object_caches.try_finish(this);
  return released;
}

// Each free comes to the slow path from now on, whoever frees: the last one must be seen.
void ObjectCache::send_frees_to_slow_path() {
  mapped_id_.store(kNoId, std::memory_order_seq_cst);
  plain.set_mapped_id(0);
  if (plain.slabs() == 0 || constructs())
    return;
  for_each_slab(plain, [this](Slab* slab) { plain.remap(slab); });
}

// The decision is made: what is free goes, and what becomes free will go by itself.
void ObjectCache::retire() {
  send_frees_to_slow_path();
  for (KmemCache* cache : {&plain, &tracked}) {
    if (constructs() && cache->slabs() > 0)
      for_each_slab(*cache, [&](Slab* slab) { destruct_slab(*cache, slab); });
    cache->set_keep_empty(KeepEmpty::kNone);
    (void)cache->shrink();
  }
  request_drain();
  g_threads.drain(id_);
}

// The same, where the thread that was at it does not exist. What it had not destructed stays so:
// destructors are the program's, and do not belong into a fork handler.
void ObjectCache::retire_in_child() {
  send_frees_to_slow_path();
  for (KmemCache* cache : {&plain, &tracked}) {
    cache->set_keep_empty(KeepEmpty::kNone);
    (void)cache->shrink();
  }
  request_drain();
}

void object_cache_let_go(unsigned id) {
  ObjectCache* cache = object_cache(id);
  if (cache->holders.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
      cache->draining.load(std::memory_order_seq_cst)) {
    g_object_caches.try_finish(cache);
  }
}

// ---- all caches -----------------------------------------------------------------------------

bool ObjectCaches::name_taken_locked(const char* name) {
  if (starts_with(name, "malloc-") || __builtin_strcmp(name, "slabscope") == 0)
    return true;
  for (const ObjectCache* cache = object_cache_from(Config::kFirstObjectId); cache != nullptr;
       cache = object_cache_from(cache->id_ + 1)) {
    const CacheLife life = cache->life();
    if ((life == CacheLife::kNew || life == CacheLife::kLive || life == CacheLife::kDying) &&
        __builtin_strcmp(cache->name_, name) == 0) {
      return true;
    }
  }
  return false;
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
    const unsigned limit = g_caches.limit();
    const unsigned id = limit < Config::kFirstObjectId ? unsigned{Config::kFirstObjectId} : limit;
    void* memory = nullptr;
    if (id < Config::kMaxCaches)
      memory = meta_allocate(sizeof(ObjectCache));
    if (memory == nullptr) {
      *error = id < Config::kMaxCaches ? ENOMEM : ENOSPC;
      return nullptr;
    }
    cache = new (memory) ObjectCache;
    cache->id_ = id;
    g_caches.add_object_pair(id, cache);
  }
  cache->life_.store(CacheLife::kNew, std::memory_order_seq_cst);
  return cache;
}

ObjectCache* ObjectCaches::create(const ObjectCacheArgs& args, Error* error) {
  const size_t align = alignment_for(args);
  *error = check_name(args.name);
  if (*error == 0 && (args.size == 0 || args.size > ObjectCache::kMaxSize || align == 0 ||
                      (args.flags & ~kKnownFlags) != 0)) {
    *error = EINVAL;
  }
  if (*error != 0)
    return nullptr;
  (void)g_threads.current_or_start();  // boots, if this is the program's first step of all
  ObjectCache* cache = nullptr;
  {
    MutexLock lock(mutex_);
    if (name_taken_locked(args.name)) {
      *error = EEXIST;
      return nullptr;
    }
    cache = new_locked(error);
    if (cache == nullptr)
      return nullptr;
    __builtin_memcpy(cache->name_, args.name, __builtin_strlen(args.name) + 1);  // checked
  }
  // Slots that open from now on see the id; those that are open get their page here.
  const bool ready = g_threads.prepare_counters(cache->id_);
  MutexLock lock(mutex_);
  if (!ready) {
    finish_locked(cache);
    *error = ENOMEM;
    return nullptr;
  }
  ++cookies_;
  cache->set_up(cache->id_, args, align, (monotonic_ns() + cookies_) * 0xbf58476d1ce4e5b9);
  set_life_locked(cache, CacheLife::kLive);
  cache->open_gate();
  return cache;
}

void ObjectCaches::set_life_locked(ObjectCache* cache, CacheLife life) {
  cache->life_.store(life, std::memory_order_seq_cst);
  g_hooks.cache_changed(cache->id_, life);
}

Error ObjectCaches::destroy(ObjectCache* cache, WhenBusy when_busy, uint64_t* left) {
  *left = 0;
  {
    MutexLock lock(mutex_);
    const CacheLife life = cache->life();
    if (life != CacheLife::kLive)
      return life == CacheLife::kDying ? EALREADY : EINVAL;
    set_life_locked(cache, CacheLife::kDying);
  }
  // Nothing is handed out any more; what free objects others have, they bring back when they can.
  cache->close_gate();
  cache->draining.store(true, std::memory_order_seq_cst);
  request_drain();
  g_threads.drain(cache->id_);
  *left = cache->objects_in_use();
  if (*left != 0 && when_busy == WhenBusy::kRefuse) {
    g_hooks.destroy_refused(
        {.id = cache->id_, .name = cache->name_, .object_size = cache->size_, .objects = *left});
    MutexLock lock(mutex_);
    cache->draining.store(false, std::memory_order_seq_cst);
    set_life_locked(cache, CacheLife::kLive);
    cache->open_gate();
    return EBUSY;
  }
  {
    MutexLock lock(mutex_);  // the name goes at once, whatever still waits
    set_life_locked(cache, *left != 0 ? CacheLife::kZombie : CacheLife::kRetiring);
    ++cache->references_;
  }
  cache->retire();
  let_go(cache);
  return 0;
}

void ObjectCaches::try_finish(ObjectCache* cache) {
  MutexLock lock(mutex_);
  if (cache->leaving() && cache->references_ == 0 &&
      cache->holders.load(std::memory_order_seq_cst) == 0 && cache->plain.slabs() == 0 &&
      cache->tracked.slabs() == 0) {
    finish_locked(cache);
  }
}

// Nobody has a bin, an object or a slab of it.
void ObjectCaches::finish_locked(ObjectCache* cache) {
  set_life_locked(cache, CacheLife::kFree);
  __atomic_store_n(&cache->stats, nullptr, __ATOMIC_RELEASE);
  g_threads.reset_counters(cache->id_);
  cache->draining.store(false, std::memory_order_seq_cst);
  cache->name_[0] = '\0';
  cache->next_unused_ = nullptr;
  if (unused_last_ != nullptr) {
    unused_last_->next_unused_ = cache;
  } else {
    unused_first_ = cache;
  }
  unused_last_ = cache;
}

ObjectCache* ObjectCaches::hold_next(unsigned id) {
  MutexLock lock(mutex_);
  if (id < Config::kFirstObjectId)
    id = Config::kFirstObjectId;
  for (ObjectCache* cache = object_cache_from(id); cache != nullptr;
       cache = object_cache_from(cache->id_ + 1)) {
    if (cache->life() == CacheLife::kLive) {
      ++cache->references_;
      return cache;
    }
  }
  return nullptr;
}

void ObjectCaches::let_go(ObjectCache* cache) {
  {
    MutexLock lock(mutex_);
    if (cache->references_ > 0)
      --cache->references_;
  }
  try_finish(cache);
}

unsigned ObjectCaches::leaving() {
  MutexLock lock(mutex_);
  unsigned count = 0;
  for (const ObjectCache* cache = object_cache_from(Config::kFirstObjectId); cache != nullptr;
       cache = object_cache_from(cache->id_ + 1)) {
    count += cache->leaving() ? 1U : 0U;
  }
  return count;
}

void ObjectCaches::reset_after_fork() SC_NO_THREAD_ANALYSIS {
  mutex_.reset_after_fork();
  for (ObjectCache* cache = object_cache_from(Config::kFirstObjectId); cache != nullptr;
       cache = object_cache_from(cache->id_ + 1)) {
    cache->references_ = 0;
    cache->holders.store(g_threads.count_bins(cache->id_), std::memory_order_seq_cst);
    if (cache->life() == CacheLife::kNew) {
      finish_locked(cache);
    } else if (cache->life() == CacheLife::kDying) {
      cache->draining.store(false, std::memory_order_seq_cst);
      set_life_locked(cache, CacheLife::kLive);
      cache->open_gate();
    } else if (cache->leaving()) {
      cache->retire_in_child();
      try_finish(cache);
    }
  }
}

}  // namespace slabscope
