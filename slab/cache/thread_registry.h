// SPDX-License-Identifier: MIT
//
// ThreadRegistry: which thread has which slot, from a thread's first allocation to its end.
//
//   first malloc ─► start() ─► free slot, or the next of a block ─► t_bins
//   thread's end ─► end()   ─► slot free again, its lists kept: the next thread takes them over
//   decay        ─► flush_ended(): what no thread took goes back to the slabs
//   fork, child  ─► the slots of threads that are gone are free again, their lists kept
//                   (a slot's counts stay for ever, and count on)
//
//   block of 32 slots │ private: bins │ shared: counters │ private: BinSlow[] │   one mapping
//
// Slot 0 is the process's: it serves, under a lock, threads that have no cache any more (a key
// destructor that frees after ours ran), and all threads when there is no slot left.
//
// Locks: mutex_ (slots), orphan_mutex_ (slot 0). Above the caches' locks.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "slab/base/config.h"
#include "slab/base/mutex.h"
#include "slab/cache/thread_cache.h"

namespace slabscope {

class ThreadRegistry {
 public:
  // The calling thread's cache, made now if it has none; nullptr if it cannot have one.
  ThreadCache* current_or_start();
  // While the calling thread's own mode is on, its fast paths are off and current_or_start() still
  // answers; what it allocates is the shim's (OwnScope).
  static bool own_mode();
  static void set_own_mode(bool on);
  // The calling thread ends: its lists wait for the next thread, or for flush_ended(). What the
  // thread still allocates goes to the orphans' slot.
  void end();
  // Caches whose thread ended `decay_ms` or longer before `now_ms` give everything back.
  void flush_ended(uint32_t now_ms, uint32_t decay_ms);

  // Slot 0, locked; nullptr without memory. Nothing is tracked there.
  SC_COLD ThreadCache* lock_orphans() SC_NO_THREAD_ANALYSIS;
  void unlock_orphans() SC_NO_THREAD_ANALYSIS { orphan_mutex_.unlock(); }

  // For programs' own caches. The counters of `id` may be used in every slot; false without memory.
  [[nodiscard]] SC_COLD bool prepare_counters(unsigned id);
  // The counters of `id`, one of malloc's, in a slot that no thread has: what caches that are gone
  // had counted. nullptr without memory.
  SC_COLD CounterPair* ledger_of(unsigned id);
  // The counts start anew. When nobody has a bin of `id` any more.
  SC_COLD void reset_counters(unsigned id);
  // How many slots have a bin of `id`. In a process with one thread.
  uint32_t count_bins(unsigned id);
  // What the caller, threads that ended and the orphans hold of `id` goes back, bins and all.
  SC_COLD void drain(unsigned id);

  // Sums of all slots, dead and alive.
  CounterPair total(unsigned id);
  unsigned blocks() const { return __atomic_load_n(&block_count_, __ATOMIC_ACQUIRE); }
  // Where the counters of a block lie; block < blocks().
  void* counters_of_block(unsigned block) const { return blocks_[block] + Config::kBlockBytes; }
  unsigned slot_count() const { return __atomic_load_n(&slots_, __ATOMIC_ACQUIRE); }

  void lock_for_fork() SC_NO_THREAD_ANALYSIS;
  void unlock_after_fork() SC_NO_THREAD_ANALYSIS;
  // In the child: all slots but the caller's (and 0) belong to threads that do not exist.
  void reset_after_fork();

 private:
  friend struct HeapLayoutWriter;  // preload/: describes the heap to tools

  static constexpr size_t kSlowBytes = sizeof(BinSlow) * Config::kLargeId;
  static constexpr size_t kSlowStride = (kSlowBytes + 4095) & ~size_t{4095};

  // A slot's first page of counters is there as long as the slot; later ones when they are needed.
  static constexpr unsigned kCountersPerPage = 4096 / sizeof(CounterPair);
  static constexpr unsigned kFirstCounterPageId =
      (4096 - Config::kCountersOffset) / sizeof(CounterPair);

  bool counters_present_locked(ThreadCache* cache, unsigned id) SC_REQUIRES(mutex_);
  static void hide_bins();
  ThreadCache* start_slow();
  ThreadCache* slot_locked(unsigned number) SC_REQUIRES(mutex_);
  ThreadCache* open_locked(ThreadCache* cache) SC_REQUIRES(mutex_);
  bool add_block_locked() SC_REQUIRES(mutex_);
  void reclaim_locked(ThreadCache* cache) SC_REQUIRES(mutex_);
  ThreadCache* cache_of(unsigned number) const;

  Mutex mutex_;
  Mutex orphan_mutex_;  // slot 0
  ThreadCache* free_ SC_GUARDED_BY(mutex_) = nullptr;
  ThreadCache* ledger_ SC_GUARDED_BY(mutex_) = nullptr;  // made with the first group
  unsigned warm_ SC_GUARDED_BY(mutex_) = 0;              // how many of free_ have lists
  unsigned slots_ = 0;                                   // slots ever used, 0 included
  unsigned block_count_ = 0;
  bool booted_ SC_GUARDED_BY(mutex_) = false;
  std::array<char*, Config::kMaxBlocks> blocks_{};
};

extern constinit ThreadRegistry g_threads;

}  // namespace slabscope
