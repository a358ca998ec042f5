// SPDX-License-Identifier: MIT
//
// ModuleTable: which files were mapped where and when, so that a stack can be named later.
//
//   start:  dl_iterate_phdr ─────────────► add ─► ModuleRecord + path in strings
//   later:  note_stack(frames) ─► _dl_find_object(pc) ─► known? done
//                                             │ no
//                                             ▼
//                                            add ─► overlaps an old one?
//               old.unloaded_generation = new.loaded_generation = ++generation ◄┘
//
// Invariants
//   1. A record never changes but for unloaded_generation; generations only grow.      (reuse test)
//   2. What is compared is private (start_, end_, token_); the file's copy is written, never read.
// Locks: mutex_, tried, never waited for: a signal handler may interrupt its holder.  Who finds it
// taken leaves the work to the next new stack.
// Called from: preload's constructor (add_loaded), and with each *new* stack, no lock held.
// A stack that was stored before a library was exchanged at the same address keeps its old
// generation, so it is still named by the old library.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "diag/abi/layout.h"
#include "diag/scope_file.h"
#include "slab/base/mutex.h"

namespace slabscope::diag {

class ModuleTable {
 public:
  // What identifies a mapped object, and what is written about it.
  struct Module {
    uintptr_t start = 0;
    uintptr_t end = 0;
    uintptr_t bias = 0;
    uintptr_t token = 0;  // differs between two objects at one address: their .eh_frame_hdr
    const char* path = "";
    const void* program_headers = nullptr;
    uint32_t program_header_count = 0;
  };

  constexpr ModuleTable() = default;
  ModuleTable(const ModuleTable&) = delete;
  ModuleTable& operator=(const ModuleTable&) = delete;

  // Once, after ScopeFile::open(). `file` must outlive the table.
  void init(ScopeFile& file) {
    file_ = &file;
    generation_.store(1, std::memory_order_relaxed);
    strings_used_ = 1;
  }

  // Records everything that is loaded now. Takes the loader's lock: from a constructor only.
  void add_loaded();

  // Records the modules of these return addresses that are not known yet.
  void note_stack(const uintptr_t* frames, unsigned count);

  // Of the table as it is now: grows when a module takes the place of another.
  uint32_t generation() const { return generation_.load(std::memory_order_relaxed); }

  // Records one module unless it is known; false if there is no room.
  bool add(const Module& module);

  void reset_after_fork() { mutex_.reset_after_fork(); }

 private:
  bool is_known(uintptr_t start, uintptr_t token) const;
  bool add_locked(const Module& module) SC_REQUIRES(mutex_);
  uint32_t intern_locked(const char* path) SC_REQUIRES(mutex_);
  bool retire_overlapping_locked(const Module& module, uint32_t generation) SC_REQUIRES(mutex_);
  bool add_found(uintptr_t pc, uintptr_t& start, uintptr_t& end);

  ScopeFile* file_ = nullptr;
  Mutex mutex_;
  std::atomic<uint32_t> generation_{0};  // 1 from init() on
  std::atomic<uint32_t> count_{0};
  uint32_t strings_used_ = 0;  // 1 from init() on: offset 0 is ""
  // What is compared; start is 0 where another module has taken the place.
  struct Known {
    std::atomic<uintptr_t> start{0};
    std::atomic<uintptr_t> end{0};
    std::atomic<uintptr_t> token{0};
  };
  std::array<Known, abi::kMaxModules> known_{};
};

}  // namespace slabscope::diag
