// SPDX-License-Identifier: MIT
//
// Group: what a memory cgroup is to the kernel: children of malloc's caches, and of programs' own
// (cache_child.h), that count apart.
//
//   root cache  malloc-64  id 4 ─────┬─ thread in no group:  t_malloc_bins ─► bin of id 4
//                                    │
//   group "net" run of ids [base, base + kGroupIds)
//        child  malloc-64  base + 4 ─┴─ thread in "net":     t_malloc_bins ─► bin of base + 4
//
// A group has a run of ids in the order of malloc's, so that a thread's group is one base pointer
// to its bins: malloc does the same instructions with another base, and free, which finds the id in
// the page map, knows nothing of groups. An object goes back to the child it came from, whoever
// frees it. Children are made when a thread in the group first needs one, under their root cache,
// and go before it: all at once, when nothing of the group is in use and no thread is in it.
//
//   create ─► LIVE ─► DYING ─┬─ in use, or threads in it ─► LIVE again (kRefuse) or OFFLINE
//              │             └─ neither ─► RETIRING ─► FREE: number and run may be used again
//              └── made by a thread's name, its threads and objects gone ──▲  OFFLINE likewise
//
// Whether anything is in use is judged by the exact counts. They are exact once no thread is in the
// group, because then nothing is handed out and frees only grow. Free objects on threads' lists do
// not count; these threads drain them as those of object caches (decision 0012).
//
// What a group had counted is added to a slot of counters that no thread has (the ledger) when the
// group goes: the sums of malloc's caches never fall.
//
// Invariants
//   1. life_ changes under Groups::mutex_. A thread counts itself in threads_ before it looks at
//      life_; who destroys sets kDying before it looks at threads_: one of them sees the other.
//   2. A thread changes its base only between allocations, never inside of one.
//   3. A child's bins are counted in `holders` until they are drained; a child ends with no bin and
//      no slab. Its id is in nobody's base by then: "cleared from the index before it retires".
//   4. A Group is never unmapped: a stale handle finds a state, not another's memory.
// Locks: Groups::making_ (outermost of all: making a group takes the thread registry's lock), and
// Groups::mutex_, beside ObjectCaches::mutex_ and above CacheChildren's. Neither is held by the
// callback of a limit.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "slab/base/hooks.h"
#include "slab/base/mutex.h"
#include "slab/cache/budget.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/given_name.h"
#include "slab/cache/large.h"
#include "slab/cache/object_cache.h"
#include "slab/cache/thread_cache.h"
#include "slab/cache/thread_registry.h"

namespace slabscope {

class Group {
 public:
  // Asked when the limit leaves no room: non-zero: try again.
  using OnLimit = int (*)(Group* group, size_t wanted);

  constexpr Group() = default;

  unsigned number() const { return number_; }
  unsigned base() const { return base_; }
  const char* name() const { return name_; }
  GroupMade made() const { return made_; }
  GroupLife life() const { return life_.load(std::memory_order_seq_cst); }
  uint64_t threads() const { return threads_.load(std::memory_order_seq_cst); }
  const GroupStats& stats() const { return *stats_; }
  uint64_t held_bytes() const { return budget_.used(); }

  // Objects and bytes in use. Exact while no thread is in it.
  struct InUse {
    uint64_t objects;
    uint64_t bytes;
  };
  InUse in_use() const;

  // 0: none. `on_limit` may be null: then an allocation fails at once.
  void set_limit(size_t bytes, OnLimit on_limit);

 private:
  friend class Groups;
  friend class CacheChildren;

  void thread_came();
  void thread_left();
  // Calls visit(child, id) for each child that was made.
  template <typename Visit>
  void for_each_child(Visit visit) const;

  std::atomic<GroupLife> life_{GroupLife::kFree};
  GroupMade made_ = GroupMade::kByProgram;
  unsigned number_ = 0;
  unsigned base_ = 0;
  unsigned generation_ = 0;
  uint32_t references_ = 0;  // under Groups::mutex_
  std::atomic<uint64_t> threads_{0};
  std::atomic<uint32_t> cache_children_{0};  // of object caches, not FREE
  std::atomic<OnLimit> on_limit_{nullptr};
  Budget budget_;
  GroupStats* stats_ = nullptr;
  GroupStats unseen_{};
  char name_[kGivenNameBytes] = {};
};

// A group's part of one of malloc's caches.
struct GroupChild : ObjectPair {
  Group* group = nullptr;
};

template <typename Visit>
void Group::for_each_child(Visit visit) const {
  for (unsigned id = base_; id < base_ + Config::kGroupIds; ++id) {
    if (g_caches.ready(id))
      visit(*static_cast<GroupChild*>(g_caches.object_pair(id)), id);
  }
}

// All of them.
class Groups {
 public:
  [[nodiscard]] Group* create(const char* name, Error* error);
  // 0; EBUSY (kRefuse, told to the hook); EALREADY; EINVAL. `*left`: objects and threads.
  Error destroy(Group* group, WhenBusy when_busy, uint64_t* left);

  // Of the calling thread. A group that is none any more is as nullptr: malloc's own caches.
  void enter(Group* group);
  void leave();
  // The calling thread belongs to the group `name` whenever it has entered none.
  void join(const char* name);
  // The thread ends.
  void leave_all(ThreadCache& cache) {
    if (cache.groups().depth != 0 || cache.groups().home != 0)
      leave_each(cache);
  }

  // Groups that nobody can enter by a handle, and of which nothing is in use, go.
  void release_unused() {
    if (groups_[1].load(std::memory_order_relaxed) != nullptr)  // numbers are given from 1 on
      release_unreachable();
  }
  // A child of a group that goes may just have lost its last bin or slab.
  void try_finish(Group* group);

  // The child of the thread's group for malloc's `id`, made now if need be; nullptr without memory.
  GroupChild* need_child(Group& group, unsigned id);
  // At the limit: whether to try again.
  bool make_room(ThreadCache& cache, Group& group, size_t wanted);
  // The group that the thread allocates from; nullptr: none.
  Group* current(const ThreadCache& cache) const;

  // Not LIVE any more, but the number not free: for tests and gauges.
  unsigned leaving();

  void lock_making_for_fork() SC_NO_THREAD_ANALYSIS { making_.lock(); }
  void unlock_making_after_fork() SC_NO_THREAD_ANALYSIS { making_.unlock(); }
  void lock_for_fork() SC_NO_THREAD_ANALYSIS { mutex_.lock(); }
  void unlock_after_fork() SC_NO_THREAD_ANALYSIS { mutex_.unlock(); }
  void reset_locks_after_fork() {
    making_.reset_after_fork();
    mutex_.reset_after_fork();
  }
  // In the child: the threads that are gone are in no group; what they were destroying is alive.
  void reset_after_fork();

 private:
  Group* find_locked(const char* name) SC_REQUIRES(mutex_);
  Group* unused_locked() SC_REQUIRES(mutex_);
  Group* make(const char* name, GroupMade made, Error* error) SC_REQUIRES(making_);
  Group* joined(const char* name, unsigned before);
  Group* take_by_name(const char* name) SC_REQUIRES(making_);
  bool room_for_another();
  void set_up_locked(Group& group, const char* name, GroupMade made) SC_REQUIRES(mutex_);
  void set_life_locked(Group& group, GroupLife life) SC_REQUIRES(mutex_);
  void point_bins(ThreadCache& cache);
  bool come(Group* group);
  void leave_each(ThreadCache& cache);
  void release_unreachable();
  void retire(Group& group);
  void let_go(Group& group);
  void finish_locked(Group& group) SC_REQUIRES(mutex_);

  Mutex making_;
  Mutex mutex_;
  CounterPair* ledger_ SC_GUARDED_BY(mutex_) = nullptr;  // by malloc's ids
  // By number; never changes once it is set.
  std::array<std::atomic<Group*>, Config::kMaxGroups + 1> groups_{};
};

extern constinit Groups g_groups;

// A thread has drained its bin of a group's child.
void group_child_let_go(unsigned id);

// Whether what the thread allocates now is its group's: what the shim allocates for itself is in
// none, nor is what a capture allocates.
inline bool in_group(const ThreadCache& cache) {
  return SC_UNLIKELY(cache.groups().base != 0) && !cache.busy() && !ThreadRegistry::own_mode();
}
// Whether a thread that is grouped by its name is to be asked for it now.
bool look_due(EnteredGroups& groups);

// For a thread that is in a group: an object for malloc's `id`, a large block and the id that it
// counts under; nullptr without memory.
[[nodiscard]] void* group_allocate(ThreadCache& cache, unsigned id, size_t size);
[[nodiscard]] LargeBlock group_allocate_large(ThreadCache& cache, size_t size, size_t alignment,
                                              unsigned* owner);

}  // namespace slabscope
