// SPDX-License-Identifier: MIT
//
// EventRing: what happened to caches, newest last, in the scope file.
//
//   slow path ─► add() ─► slot (number - 1) % kMaxEvents ◄─ pread twice ─ slabscope events, report
//                            └ sequence = 0 │ fields │ sequence = number
//
// Invariants
//   1. A record whose sequence is what the reader expects, twice and with the same bytes, is whole:
//      the writer clears the sequence first and stores it last.            (torn record test)
//   2. Numbers have no gaps: an event that finds no room in the file is counted and has no number.
//   3. What is read back from the file is never used: the next number is private.
//   4. Each event counts in the counter of its kind, also one that is not written down because
//      there is no room for it or the lock is taken.                           (kinds test)
// Locks: mutex_, below all of slab/'s; held for the length of one record. add_if_free() does not
// wait for it: for a process that is about to end and may hold anything.
// Called from: preload/.

#pragma once

#include <cstdint>

#include "diag/abi/layout.h"
#include "diag/scope_file.h"
#include "slab/base/compiler.h"
#include "slab/base/mutex.h"

namespace slabscope::diag {

struct Event {
  abi::EventKind kind;
  uint32_t tid = 0;
  uint32_t cache = 0;
  uint32_t generation = 0;
  const char* name = nullptr;
  uint64_t value = 0;
  uint64_t other_value = 0;
};

class EventRing {
 public:
  constexpr EventRing() = default;
  EventRing(const EventRing&) = delete;
  EventRing& operator=(const EventRing&) = delete;

  // Once, after ScopeFile::open(). `file` must outlive the ring.
  void init(ScopeFile& file) { file_ = &file; }

  SC_COLD void add(const Event& event) {
    count(event.kind);
    MutexLock lock(mutex_);
    write(event);
  }
  void add_if_free(const Event& event);

  // In a fork child, whose only thread is the caller.
  void reset_after_fork() { mutex_.reset_after_fork(); }

 private:
  void count(abi::EventKind kind);
  void write(const Event& event) SC_REQUIRES(mutex_);

  ScopeFile* file_ = nullptr;
  Mutex mutex_;
  uint64_t newest_ SC_GUARDED_BY(mutex_) = 0;
};

}  // namespace slabscope::diag
