// SPDX-License-Identifier: MIT
//
// CacheChild: a group's part of an object cache.
//
//   thread in no group ─► t_object_bins ─► bin of the cache                      (object_cache.h)
//   thread in group 3  ─► t_object_bins is empty: slow path
//                           └─► cache.children_[3] = id of a child ─► t_bins ─► bin of the child
//                                        └── 0: made now
//
// A child is a pair of KmemCaches like its root, with an id of its own, and what its slabs take
// counts against the group. Constructors, marks, grace periods are its root's. It is made when a
// thread in the group first allocates from the root; a thread's free finds it through the page map.
// Where no id is left the index names the root itself: such objects count in no group.
//
// A child ends with its group or with its root, whichever goes first:
//
//   LIVE ─┬─ the group retires ─► RETIRING ──┬─► no bin, slab or visitor ─► counts go to the root,
//         └─ the root is destroyed ─► RETIRING, or ZOMBIE with objects      FREE ─► root, group
//
// Who retires a group may stand in the middle of a malloc, where no destructor and no grace period
// may run: children of caches that have one are left unsettled, for ObjectCaches::settle().
//
// Invariants
//   1. The root's index names a child while it is LIVE, and not after: it is cleared first, then
//      the child retires, then it is released. A thread that finds an id there holds the child and
//      looks again (hold_for); who releases clears first and then asks for holders.
//   2. root, group and life change under CacheChildren::mutex_. A root is not released before its
//      children, nor is a group: both count them.
//   3. A CacheChild is never unmapped, and stays on the list of all.
// Locks: CacheChildren::mutex_, below those of groups and object caches, above CacheTable's. Held
// for lists and numbers alone: slabs go, and other parts of slab/ are called, without it.

#pragma once

#include <atomic>
#include <cstdint>

#include "slab/base/hooks.h"
#include "slab/base/mutex.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/thread_cache.h"

namespace slabscope {

class Group;
class ObjectCache;

struct CacheChild : ObjectPair {
  std::atomic<ObjectCache*> root{nullptr};
  std::atomic<Group*> group{nullptr};
  std::atomic<CacheLife> life{CacheLife::kFree};  // LIVE, ZOMBIE, RETIRING or FREE
  std::atomic<bool> unsettled{false};             // its free objects are to be destructed first
  unsigned id = 0;
  unsigned generation = 0;
  CacheChild* next_made = nullptr;
  CacheChild* next_unused = nullptr;
};

// What an object cache and its children hold together.
struct PartSums {
  CounterPair counts;
  CacheStats stats;
};

class CacheChildren {
 public:
  // The id from which a thread in `group` allocates for `root`: a child's, made now if need be, or
  // the root's own where there is no id for a child. Its pair is held, until let_go_of_bin(id).
  // 0: no memory, or the root is on its way out.
  unsigned hold_for(ObjectCache& root, Group& group);

  // Calls visit(child) for each child of a cache or of a group that is not FREE. Each is held
  // meanwhile; no lock is.
  template <typename Owner, typename Visit>
  void for_each(const Owner& owner, Visit visit) {
    CacheChild* child = hold_next(owner, nullptr);
    while (child != nullptr) {
      visit(*child);
      CacheChild* next = hold_next(owner, child);
      let_go(*child);
      child = next;
    }
  }

  // Of a root: that threads bring back what they have of its live children, or need not any more.
  void set_draining(ObjectCache& root, bool draining);
  // The root leaves: nobody finds its children by it any more.
  void leave(ObjectCache& root);
  // Nothing of the group is in use, no thread is in it: its children go.
  void retire_of(Group& group);
  // What retire_of() left. By callers that may wait for a grace period.
  void settle();
  // Its free objects are destructed.
  void settled(CacheChild& child);

  // Sums over a root and its children, at one moment with regard to children that go.
  PartSums sums(const ObjectCache& root);
  // Objects and bytes in use of a group's children.
  CounterPair in_use_of(const Group& group, uint64_t* bytes);
  // What the program gave to call_rcu() may be frees of objects of the group.
  void flush_callbacks_of(const Group& group);

  void let_go(CacheChild& child);
  void try_finish(CacheChild& child);
  // Children that are not FREE: for tests and gauges.
  unsigned in_use();

  void lock_for_fork() SC_NO_THREAD_ANALYSIS { mutex_.lock(); }
  void unlock_after_fork() SC_NO_THREAD_ANALYSIS { mutex_.unlock(); }
  // In the child: before caches and groups do so.
  void reset_after_fork();

 private:
  CacheChild* hold_next(const ObjectCache& root, CacheChild* after);
  CacheChild* hold_next(const Group& group, CacheChild* after);
  template <typename Belongs>
  CacheChild* hold_next_if(CacheChild* after, Belongs belongs);
  unsigned make(ObjectCache& root, Group& group);
  CacheChild* take_record();
  void publish_locked(CacheChild& child, ObjectCache& root, Group& group) SC_REQUIRES(mutex_);
  void unuse_locked(CacheChild& child) SC_REQUIRES(mutex_);
  void finish_locked(CacheChild& child) SC_REQUIRES(mutex_);

  Mutex mutex_;
  std::atomic<uint32_t> unsettled_{0};
  CacheChild* made_ SC_GUARDED_BY(mutex_) = nullptr;    // all
  CacheChild* unused_ SC_GUARDED_BY(mutex_) = nullptr;  // FREE ones
  CounterPair* ledger_ SC_GUARDED_BY(mutex_) = nullptr;
};

extern constinit CacheChildren g_cache_children;

// A thread has drained its bin of a program's own id, or no longer holds its pair.
void let_go_of_bin(unsigned id);

}  // namespace slabscope
