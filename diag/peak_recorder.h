// SPDX-License-Identifier: MIT
//
// PeakRecorder: the caches at the moment when the most memory was in use, in the scope file.
//
//   begin() ─► add(cache) … ─► finish() ─► record (epoch + 1) % 2 whole ─► Header::peak_epoch
//                                 │ not more than the last one: nothing       └► StackDepot
//                                 ▼
//
// Invariants
//   1. The record that Header::peak_epoch names is whole at every instant: the next one is written
//      into the other place, and named when it is done.                        (kill test)
//   2. Recorded peaks rise.
//   3. What is in the file is never read back.
// Locks: one recorder at a time, tried and never waited for.
// Called from: preload/watch_peak.cc, which decides when to look. Exactness: docs/decisions/0014.

#pragma once

#include <cstdint>

#include "diag/abi/layout.h"
#include "diag/scope_file.h"
#include "diag/stack_depot.h"
#include "slab/base/mutex.h"

namespace slabscope::diag {

class PeakRecorder {
 public:
  constexpr PeakRecorder() = default;
  PeakRecorder(const PeakRecorder&) = delete;
  PeakRecorder& operator=(const PeakRecorder&) = delete;

  // Once, after ScopeFile::open(). Both must outlive the recorder.
  void init(ScopeFile& file, StackDepot& depot) {
    file_ = &file;
    depot_ = &depot;
  }

  // False: another thread is at it, or there is no room. Else add() and finish() must follow.
  [[nodiscard]] bool begin() SC_NO_THREAD_ANALYSIS;
  // Caches in the order of their ids; those with objects in use.
  void add(const abi::PeakCache& cache);
  // True if this is the highest so far, which is now on record.
  bool finish() SC_NO_THREAD_ANALYSIS;

  // Bytes of the recorded peak; 0: none.
  uint64_t highest() const { return __atomic_load_n(&highest_, __ATOMIC_RELAXED); }

  // In a fork child: it has no peak of its own yet.
  void forget_after_fork();

 private:
  ScopeFile* file_ = nullptr;
  StackDepot* depot_ = nullptr;
  Mutex mutex_;         // one record is made at a time; others do without
  uint64_t epoch_ = 0;  // of the newest record
  uint64_t highest_ = 0;
  // While one is made.
  bool complete_ = false;
  uint32_t count_ = 0;
  uint64_t objects_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace slabscope::diag
