// SPDX-License-Identifier: MIT
//
// PageHeap: page runs, in chunks of 16 KiB, and their way back to the kernel.
//
//   kernel ─grow─► clean free runs ─allocate─► slab or large block ─release─► dirty free runs
//                     ▲      by length, best fit, dirty ones first       by length and age │
//                     └────────────── purge: older than the decay time ◄───────────────────┘
//
// Segments are mapped upwards in one window (page_map.h), so runs coalesce across them. Dirty runs
// hold data and cost nothing to reuse; clean ones cost no memory and a page fault a page (1-11 us
// on virtual machines): so an allocation takes the best-fitting dirty run first, whoever freed it.
// Runs coalesce only with their own kind, which keeps "clean" a promise of zeroes.
//
// Invariants
//   1. A free run's first and last chunk say kFree, its length and its head; no two free runs of
//      one kind touch.                                                             (validate())
//   2. clean: every byte is zero. dirty runs are also in the list by age: in the order in
//      which they came, so that what is left of a run that was split waits once more.
//   3. dirty bytes <= max(kDirtyFloor, in use / kDirtyFraction) after each purge that succeeds, and
//      after each growth of slabs. While the heap is larger than ever, kPeakDirtyFloor and so on:
//      a program's peak is then what it used, and little of what it freed (docs/decisions, 0013).
// Locks: mutex_, a leaf but for the meta allocator's. Never held across madvise or munmap of runs.
// Called from: slab/cache (grow, release, large blocks) and the slow path's clock tick.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "slab/base/mutex.h"
#include "slab/pages/page_map.h"

namespace slabscope {

class PageHeap {
 public:
  static constexpr size_t kNoRun = SIZE_MAX;

  constexpr PageHeap() = default;

  // A run of `count` chunks whose first chunk number is a multiple of `alignment` (a power of two,
  // in chunks); kNoRun if the kernel has no memory. `*zeroed`: every byte is zero.
  // The caller sets the chunks' kinds.
  [[nodiscard]] size_t allocate(size_t count, size_t alignment, bool* zeroed);

  // Takes back `count` chunks from `index` on, whose kinds and ids the caller has cleared.
  enum class Contents : uint8_t { kData, kZeroes };
  void release(size_t index, size_t count, Contents contents = Contents::kData);

  // Chooses the window now rather than with the first run, so that readers outside know from the
  // start where the heap will be. Without memory the first allocate() tries again.
  void prepare();

  // Grows a run in place from `count` to `wanted` chunks, if what follows it is free. `*fresh` is
  // set if some of that was never touched, or given back to the kernel.
  [[nodiscard]] bool extend(size_t index, size_t count, size_t wanted, bool* fresh = nullptr);

  // Gives dirty runs back to the kernel that were freed `decay_ms` or longer before `now_ms`, and
  // the oldest ones above the bound. Returns the bytes given back.
  size_t purge(uint32_t now_ms, uint32_t decay_ms);

  // After fresh memory was taken while dirty memory lies about that did not fit: gives the oldest
  // dirty runs back, as many as are above the bound and as make the heap larger than it ever was;
  // of a block that may be gone soon only the latter. Cheap when there is nothing to do.
  enum class Grown : uint8_t { kToLast, kForABlock };
  void after_fresh(Grown grown);

  // The clock of release(), in ms, moved by the slow path's tick.
  void set_now(uint32_t now_ms) { __atomic_store_n(&now_ms_, now_ms, __ATOMIC_RELAXED); }

  // The slab that chunk `index` lies in; nullptr if it is none's. For walks over chunks that others
  // may free meanwhile: the pointer shares its place with a free run's links, which change under
  // the lock.
  SC_COLD Slab* slab_at(size_t index);

  // Walks all free runs and checks the invariants; panics on a violation. For tests.
  SC_COLD void validate();

  void lock_for_fork() SC_NO_THREAD_ANALYSIS { mutex_.lock(); }
  void unlock_after_fork() SC_NO_THREAD_ANALYSIS { mutex_.unlock(); }
  void reset_after_fork() { mutex_.reset_after_fork(); }

 private:
  // Bins 1..255 hold runs of just that length, the others a quarter of a doubling each.
  static constexpr size_t kExactBins = 256;
  static constexpr size_t kBins = kExactBins + 4 * 20;
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Runs {
    std::array<uint32_t, kBins> first;  // chunk number, kNone if empty (0 until ready)
    std::array<uint64_t, (kBins + 63) / 64> used;
  };

  static size_t bin_of(size_t count);
  bool ready_locked() SC_REQUIRES(mutex_);
  bool choose_window_locked() SC_REQUIRES(mutex_);
  size_t grow_locked(size_t count) SC_REQUIRES(mutex_);
  size_t grow_at_locked(size_t index, size_t count) SC_REQUIRES(mutex_);
  SC_COLD size_t grow_anywhere_locked(size_t count) SC_REQUIRES(mutex_);
  size_t free_behind_locked(size_t index, size_t enough) SC_REQUIRES(mutex_);
  size_t find_locked(const Runs& runs, size_t count) SC_REQUIRES(mutex_);
  size_t take_locked(size_t count, bool* zeroed) SC_REQUIRES(mutex_);
  void insert_locked(size_t index, size_t count, bool dirty, uint32_t freed_ms) SC_REQUIRES(mutex_);
  void remove_locked(size_t index) SC_REQUIRES(mutex_);
  void age_append_locked(size_t index) SC_REQUIRES(mutex_);
  void age_remove_locked(size_t index) SC_REQUIRES(mutex_);
  size_t surplus_locked() const SC_REQUIRES(mutex_);
  size_t above_peak_locked() const SC_REQUIRES(mutex_);
  size_t give_back_locked(size_t most, uint32_t now_ms) SC_REQUIRES(mutex_);
  SC_COLD void validate_bin_locked(const Runs& runs, size_t bin, bool dirty) SC_REQUIRES(mutex_);
  Runs& runs_of(bool dirty) { return dirty ? dirty_ : clean_; }

  Mutex mutex_;
  bool ready_ SC_GUARDED_BY(mutex_) = false;
  size_t top_ SC_GUARDED_BY(mutex_) = 0;     // chunk number where the next segment goes
  size_t in_use_ SC_GUARDED_BY(mutex_) = 0;  // chunks
  size_t dirty_chunks_ SC_GUARDED_BY(mutex_) = 0;
  // Seen by after_fresh(): the most of both together, and of the first.
  size_t peak_ SC_GUARDED_BY(mutex_) = 0;
  size_t most_in_use_ SC_GUARDED_BY(mutex_) = 0;
  size_t given_for_peak_ SC_GUARDED_BY(mutex_) = 0;  // so that the peak did not grow
  uint32_t oldest_ SC_GUARDED_BY(mutex_) = kNone;
  uint32_t newest_ SC_GUARDED_BY(mutex_) = kNone;
  uint32_t now_ms_ = 0;
  Runs clean_ SC_GUARDED_BY(mutex_){};
  Runs dirty_ SC_GUARDED_BY(mutex_){};
};

extern constinit PageHeap g_page_heap;

}  // namespace slabscope
