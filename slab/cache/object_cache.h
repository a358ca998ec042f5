// SPDX-License-Identifier: MIT
//
// ObjectCache: a cache that a program makes, uses and destroys; behind slab/slabscope.h.
//
//   create ─► LIVE ─► DYING ─┬─ objects in use ─► LIVE again (kRefuse) or ZOMBIE (kDetach)
//                            └─ none ─► RETIRING ─► FREE: the id may be used again
//                                          ▲ ZOMBIE too, with its last object
//
// It is a pair of KmemCaches under an id of its own, so its objects use the same bins, lists and
// slabs as malloc's. The fast paths ask nothing about its state: allocation finds the bin through
// bin_offset, which is 0, a bin without a list, while the slow path must look; freeing compares the
// id in the map, which is 0 for all chunks of a cache that is on its way out.
//
// Other threads' lists are theirs, and nobody waits for them. Emptiness is judged by the exact
// counts: once nothing is handed out any more, the sum of frees only grows, so a sum that says
// "nothing in use" is true. The slabs whose free objects lie on threads' lists stay until each
// thread has passed its slow path (request_drain) and let go of its bin; the id is free when no
// bin and no slab is left. So also a program that allocates during destroy hurts nobody's memory.
//
// With a constructor or destructor each place has a head, and the object lies behind it:
//   │ link │ mark │ … object │     mark: never constructed (or destructed) │ free │ in use
// so objects keep their state while they are on a list; such caches keep their empty slabs
// (KeepEmpty::kAll) until somebody who may call the destructor destructs what is in them. Caches
// whose readers are RCU's (kTypesafe) are the same, and give a slab back only after a grace period;
// only shrink, create and destroy wait for one. Caches that are debugged (kDebug) have a head too,
// so that each free sees the mark, and red zones around the object (object_checks.h).
//
// Merging: a cache that asks for it becomes an alias of a shared cache of its geometry, which bears
// a name of its own (":0000064") and goes with the last alias:
//   alias ──target_──► shared ◄──target_── alias        gates of both lead to the shared one's bins
// An alias has an id, a record and a name, but neither slabs nor bins nor counts.
//
// Groups: what a thread in a group allocates comes from a child of the cache (cache_child.h), which
// is a part of it: a cache is empty when all its parts are, and goes after its children.
//
// Invariants
//   1. life_ changes under ObjectCaches::mutex_; kDying excludes every other destroyer.
//   2. Decide first, unlink second: up to the decision nothing is taken from anybody.
//   3. A bin of the id is counted in `holders` before it is first used, and until it is drained.
//   4. An ObjectCache is never unmapped: a stale handle finds a state, not another's memory.
//   5. ctor, dtor, grace periods, hooks that capture or write reports: without a lock of slab/.
//   6. A show or store is counted in shows_; removal waits for it after the name is gone, without a
//      lock. references_ keeps the record from being reused, and nothing else.
// Locks: ObjectCaches::mutex_, below the thread registry's, above CacheChildren's.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "slab/base/active_count.h"
#include "slab/base/compiler.h"
#include "slab/base/hooks.h"
#include "slab/base/mutex.h"
#include "slab/cache/cache_child.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/given_name.h"
#include "slab/cache/grace_period.h"
#include "slab/cache/object_checks.h"
#include "slab/cache/thread_cache.h"

namespace slabscope {

struct ObjectCacheArgs {
  const char* name;
  size_t size;
  size_t align = 0;  // 0: what the size allows
  uint32_t flags = 0;
  void (*constructor)(void*) = nullptr;
  void (*destructor)(void*) = nullptr;
  const RcuFlavor* rcu = nullptr;  // with kTypesafe, and only then
};

enum class WhenBusy : uint8_t { kRefuse, kDetach };

// What it counts since it was created, less what it was when somebody reset it.
enum class ResettableStat : uint8_t {
  kFastAllocs,
  kSlowAllocs,
  kGrown,
  kReleased,
  kRemote,
  kCount
};

class ObjectCache : public ObjectPair {
 public:
  static constexpr size_t kNameBytes = kGivenNameBytes;
  static constexpr size_t kMaxSize = Config::kSmallMax;
  static constexpr uint32_t kConsistency = 0x100;     // SLAB_CONSISTENCY_CHECKS
  static constexpr uint32_t kRedZone = 0x400;         // SLAB_RED_ZONE
  static constexpr uint32_t kPoison = 0x800;          // SLAB_POISON
  static constexpr uint32_t kHardwareAlign = 0x2000;  // SLAB_HWCACHE_ALIGN
  static constexpr uint32_t kStoreUser = 0x10000;     // SLAB_STORE_USER
  static constexpr uint32_t kTypesafe = 0x80000;      // SLAB_TYPESAFE_BY_RCU
  static constexpr uint32_t kMerge = 0x1000000;       // SLAB_MERGE
  // Those that give each object a head.
  static constexpr uint32_t kDebug = kConsistency | kRedZone | kPoison;

  constexpr ObjectCache() = default;

  // ---- the hot line: what the fast paths read ----
  // Byte offset of its bins in a thread's slot; 0: allocations come to allocate_slow().
  uint32_t bin_offset() const { return bin_offset_.load(std::memory_order_relaxed); }
  // The id that the chunks of its slabs have; kNoId: frees come to free_slow().
  uint32_t mapped_id() const { return mapped_id_.load(std::memory_order_relaxed); }

  [[nodiscard]] SC_INLINE void* allocate(Error* error) {
    void* object = pop_fast(bin_at(t_object_bins, bin_offset()));
    if (SC_UNLIKELY(object == nullptr))
      object = pop_from_child();
    return SC_LIKELY(object != nullptr) ? object : allocate_slow(error);
  }
  // For a thread in a group, whose t_object_bins have nothing: from its list of the group's child.
  SC_INLINE void* pop_from_child() {
    if (t_object_bins == t_bins || bin_offset() == 0)
      return nullptr;
    const auto* mine = reinterpret_cast<const ThreadCache*>(t_bins + ThreadCache::kOffset);
    const unsigned id = target()->children_[mine->groups().current].load(std::memory_order_acquire);
    return pop_fast(bin_at(t_bins, id * sizeof(Bin)));  // 0: a bin without a list
  }
  // To the thread's list, if the object is a child's and the list has room for it.
  SC_INLINE bool push_to_child(void* object) {
    const size_t index = g_page_map.index_of(object);
    if (bin_offset() == 0 || index >= g_page_map.chunk_limit())
      return false;
    const unsigned id = g_page_map.id_at(index);
    if (id < Config::kFirstObjectId)
      return false;
    const ObjectPair* pair = g_caches.object_pair(id);
    return pair->pair_kind == PairKind::kCacheChild &&
           static_cast<const CacheChild*>(pair)->root.load(std::memory_order_relaxed) == target() &&
           push_listed(bin_at(t_bins, id * sizeof(Bin)), object);
  }
  SC_INLINE void deallocate(void* object) {
    const size_t index = g_page_map.index_of(object);
    if (SC_UNLIKELY(index >= g_page_map.chunk_limit() || g_page_map.id_at(index) != mapped_id() ||
                    !push_listed(bin_at(t_bins, bin_offset()), object))) {
      free_slow(object);
    }
  }

  SC_NOINLINE void* allocate_slow(Error* error);
  SC_NOINLINE void free_slow(void* object);
  // For free(): `object` lies in `slab`, which is of `cache`, one of this pair or of a child's.
  void free_in_slab(KmemCache* cache, Slab* slab, void* object);

  unsigned id() const { return id_; }
  const char* name() const { return name_; }
  size_t size() const { return size_.load(std::memory_order_relaxed); }
  size_t align() const { return align_; }
  uint32_t flags() const { return flags_; }
  CacheLife life() const { return life_.load(std::memory_order_seq_cst); }
  // Whether objects have a head: they keep their state from free to alloc, or are debugged.
  bool headed() const { return offset_ != 0; }
  bool keeps_state() const {
    return constructor_ != nullptr || destructor_ != nullptr || typesafe();
  }
  bool typesafe() const { return grace_.synchronize != nullptr; }
  // The cache whose objects it hands out: itself, or the one that it is an alias of.
  ObjectCache* target() {
    ObjectCache* shared = target_.load(std::memory_order_acquire);
    return shared != nullptr ? shared : this;
  }
  const ObjectCache* target() const { return const_cast<ObjectCache*>(this)->target(); }
  bool is_alias() const { return target() != this; }
  bool is_shared() const { return shared_; }
  // Names that a shared cache has besides the first.
  uint32_t other_names() const;
  void (*constructor() const)(void*) { return constructor_; }
  // Of the cache and its children together.
  PartSums sums() const { return g_cache_children.sums(*this); }
  uint64_t objects_in_use() const;
  // Calls visit(pair, id) for each child, which is held meanwhile, and then for the cache itself.
  template <typename Visit>
  void for_each_part(Visit visit) {
    g_cache_children.for_each(*this, [&](CacheChild& child) { visit(child, child.id); });
    visit(*this, id_);
  }
  // The id that threads in group `number` allocate from; 0: none yet.
  unsigned child_of(unsigned number) const {
    return children_[number].load(std::memory_order_seq_cst);
  }
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

  // Gives empty slabs back, what the caller and threads that ended keep included. Returns how many.
  // Of a typesafe cache: after a grace period.
  unsigned shrink();
  // Stops the program if a list is wrong, or if something was written where nothing may be.
  void validate();

  // Around a show or store of one of its attributes (cache_attributes.h); false: it was removed.
  [[nodiscard]] bool enter_show() { return shows_.enter(); }
  void leave_show() { shows_.leave(); }
  uint64_t resettable(ResettableStat stat) const;
  void reset(ResettableStat stat);

 private:
  friend class ObjectCaches;
  friend class CacheChildren;

  void* allocate_in(unsigned part, ThreadCache& cache, size_t wanted);
  void* allocate_place(ThreadCache& cache, size_t wanted);
  void* allocate_held(const ObjectCache& through, Error* error);
  uint64_t counted_since_creation(ResettableStat stat) const;

  static constexpr uint32_t kNoId = UINT32_MAX;
  static constexpr uint32_t kEmptyKept = 4;  // slabs of constructed objects, between two looks

  // What precedes an object that was constructed.
  struct Head {
    FreeObject link;
    std::atomic<uint64_t> mark;
  };
  uint64_t free_mark(const void* place) const {
    return (reinterpret_cast<uintptr_t>(place) * 0x9e3779b97f4a7c15) ^ cookie_;
  }
  static uint64_t used_mark(uint64_t free) { return ~free; }
  void* object_in(void* place) const { return static_cast<char*>(place) + offset_; }
  void* place_of(void* object) const { return static_cast<char*>(object) - offset_; }

  static size_t place_bytes(size_t size, size_t align);
  void set_up(const ObjectCacheArgs& args, size_t align, uint64_t cookie);
  void set_up_names(const ObjectCacheArgs& args, size_t align);
  void set_up_alias(ObjectCache* shared, const ObjectCacheArgs& args, size_t align);
  void open_gate();
  void close_gate() { bin_offset_.store(0, std::memory_order_seq_cst); }
  bool leaving() const;
  void* hand_out(void* place);
  void give_back(KmemCache& cache, Slab* slab, void* place);
  void take_back_mark(const KmemCache& cache, const Slab* slab, void* object);
  bool take_mark_off(void* place);
  bool destruct(void* place);
  void destruct_slab(KmemCache& cache, Slab* slab);
  unsigned release_empty(KmemCache& cache);
  unsigned release_idle(ObjectPair& part);
  void send_frees_to_slow_path();
  void retire_part(ObjectPair& part);
  void drain_parts();
  void retire();
  void retire_in_child();
  [[noreturn]] SC_COLD void wrong_cache(const void* object, unsigned id) const;

  // ---- if it is debugged (object_cache_checks.cc) ----
  ObjectChecks checks_for(const ObjectCacheArgs& args, size_t place) const;
  bool take_checked(void* place, bool prepared, ObjectChecks::Damage* damage);
  void* hand_out_checked(void* place);
  uint64_t take_back_checked(const KmemCache& cache, const Slab* slab, void* place);
  bool leave_checked(void* place);
  void validate_slab(const KmemCache& cache, const Slab* slab);
  static uint32_t record_of(const KmemCache& cache, const Slab* slab, const void* place);
  [[noreturn]] SC_COLD void damaged(const ObjectChecks::Damage& damage, const void* object,
                                    uint32_t record) const;

  std::atomic<uint32_t> bin_offset_{0};
  std::atomic<uint32_t> mapped_id_{kNoId};
  std::atomic<CacheLife> life_{CacheLife::kFree};
  uint32_t id_ = 0;
  uint32_t flags_ = 0;
  uint32_t align_ = 0;
  uint32_t offset_ = 0;            // of the object in its place
  std::atomic<uint32_t> size_{0};  // as it was asked for; of a shared cache: the largest
  uint32_t generation_ = 0;
  uint32_t references_ = 0;  // under ObjectCaches::mutex_
  void (*constructor_)(void*) = nullptr;
  void (*destructor_)(void*) = nullptr;
  uint64_t cookie_ = 0;  // of the marks; never twice the same
  std::atomic<uint64_t> refused_{0};
  GracePeriod grace_;
  ActiveCount shows_;
  std::atomic<ObjectCache*> target_{nullptr};  // of an alias
  bool shared_ = false;                        // has aliases; goes with the last one
  uint32_t aliases_ = 0;                       // under ObjectCaches::mutex_, as the next two
  ObjectCache* last_alias_ = nullptr;          // what a zombie's last alias was
  uint64_t release_at_ms_ = 0;                 // with a release delay
  uint64_t reset_at_[static_cast<unsigned>(ResettableStat::kCount)] = {};
  ObjectCache* next_unused_ = nullptr;
  ObjectChecks checks_;
  std::atomic<uint32_t> child_count_{0};  // not FREE
  // By a group's number: the id that its threads allocate from (cache_child.h).
  std::atomic<uint16_t> children_[Config::kMaxGroups + 1] = {};
  char name_[kNameBytes] = {};
};

// All of them, by name and id.
class ObjectCaches {
 public:
  [[nodiscard]] ObjectCache* create(const ObjectCacheArgs& given, Error* error);
  // 0; EBUSY (kRefuse, told to the hook); EALREADY; EINVAL. `*left`: objects in use.
  Error destroy(ObjectCache* cache, WhenBusy when_busy, uint64_t* left);
  // The last slab or the last bin of a cache that is going away may just have gone.
  void try_finish(ObjectCache* cache);
  // What earlier calls left to do, because it had to wait for readers or for a delay: typesafe
  // zombies without objects, releases that are due. By callers that may wait for a grace period.
  void settle();

  // The first cache with an id from `id` on that is alive, shared ones left out. It is held: its
  // record stays until let_go().
  ObjectCache* hold_next(unsigned id);
  // The same by name, shared ones included; nullptr: there is none.
  ObjectCache* hold_named(const char* name);
  void let_go(ObjectCache* cache);

  // For tests and gauges: caches not LIVE any more whose id is not free; ids that are not free;
  // references to caches, and shows inside.
  unsigned leaving();
  unsigned in_use();
  unsigned held();

  // Each release is put off by a random time up to `ms` (0: at once), to show who uses what is
  // gone.
  void set_release_delay(uint32_t ms) {
    __atomic_store_n(&release_delay_ms_, ms, __ATOMIC_RELAXED);
  }

  // What SLABSCOPE_DEBUG says (debug_spec.h), for caches that are made from now on. Copied.
  void set_debug(const char* spec);

  void lock_for_fork() SC_NO_THREAD_ANALYSIS {
    mutex_.lock();
    g_object_checks_mutex.lock();
  }
  void unlock_after_fork() SC_NO_THREAD_ANALYSIS {
    g_object_checks_mutex.unlock();
    mutex_.unlock();
  }
  // In the child: what another thread was destroying is alive, as the decision was not made.
  void reset_after_fork();

 private:
  ObjectCache* reserve(const char* name, Error* error);
  bool bring_up(ObjectCache* cache, const ObjectCacheArgs& args, size_t align, ObjectCache* alias,
                Error* error);
  ObjectCache* create_merged(const ObjectCacheArgs& args, size_t align, Error* error);
  ObjectCache* find_mergeable_locked(const ObjectCacheArgs& args, size_t align) SC_REQUIRES(mutex_);
  void attach_locked(ObjectCache* alias, ObjectCache* shared, const ObjectCacheArgs& args,
                     size_t align) SC_REQUIRES(mutex_);
  void name_shared_locked(ObjectCache* cache, size_t place) SC_REQUIRES(mutex_);
  ObjectCache* new_locked(Error* error) SC_REQUIRES(mutex_);
  bool name_taken_locked(const char* name) SC_REQUIRES(mutex_);
  void set_life_locked(ObjectCache* cache, CacheLife life) SC_REQUIRES(mutex_);
  void revive_locked(ObjectCache* cache) SC_REQUIRES(mutex_);
  Error condemn(ObjectCache* handle, bool* last);
  void unlink(ObjectCache* handle, bool busy);
  ObjectCache* hold_locked(ObjectCache* cache) SC_REQUIRES(mutex_);
  void reset_one_after_fork(ObjectCache* cache);
  template <typename Count>
  unsigned sum(Count count);
  bool may_finish_locked(ObjectCache* cache) SC_REQUIRES(mutex_);
  bool is_due_locked(ObjectCache* cache) SC_REQUIRES(mutex_);
  void finish_locked(ObjectCache* cache) SC_REQUIRES(mutex_);
  ObjectCache* next_settled_locked() SC_REQUIRES(mutex_);

  Mutex mutex_;
  uint32_t release_delay_ms_ = 0;
  const char* debug_spec_ = "";
  // Typesafe zombies and delayed releases: whether settle() has anything to look for.
  std::atomic<uint32_t> unsettled_{0};
  ObjectCache* unused_first_ SC_GUARDED_BY(mutex_) = nullptr;  // oldest first
  ObjectCache* unused_last_ SC_GUARDED_BY(mutex_) = nullptr;
  uint64_t cookies_ SC_GUARDED_BY(mutex_) = 0;
};

extern constinit ObjectCaches g_object_caches;

// Of a program's own id; nullptr if it is no object cache's.
inline ObjectCache* object_cache(unsigned id) {
  ObjectPair* pair = g_caches.object_pair(id);
  return pair != nullptr && pair->pair_kind == PairKind::kObject ? static_cast<ObjectCache*>(pair)
                                                                 : nullptr;
}
// The one whose objects have that id: its own, or a child's.
inline ObjectCache* object_cache_owning(unsigned id) {
  ObjectPair* pair = g_caches.object_pair(id);
  return pair == nullptr || pair->pair_kind != PairKind::kCacheChild
             ? object_cache(id)
             : static_cast<CacheChild*>(pair)->root.load(std::memory_order_acquire);
}
// The first one with an id from `id` on; nullptr if there is none.
inline ObjectCache* object_cache_from(unsigned id) {
  for (; id < g_caches.limit(); ++id) {
    if (object_cache(id) != nullptr)
      return object_cache(id);
  }
  return nullptr;
}

// for (ObjectCache& cache : all_object_caches()), whatever state they are in.
struct ObjectCacheRange {
  struct Iterator {
    ObjectCache* at;
    ObjectCache& operator*() const { return *at; }
    Iterator& operator++() {
      at = object_cache_from(at->id() + 1);
      return *this;
    }
    bool operator!=(const Iterator& other) const { return at != other.at; }
  };
  Iterator begin() const { return {object_cache_from(Config::kFirstObjectId)}; }
  Iterator end() const { return {nullptr}; }
};
inline ObjectCacheRange all_object_caches() {
  return {};
}

// A thread has drained its bin of `id`.
void object_cache_let_go(unsigned id);

}  // namespace slabscope
