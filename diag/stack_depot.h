// SPDX-License-Identifier: MIT
//
// StackDepot: every distinct stack once, in the scope file, named by a 32-bit handle.
//
//   hash(frames) ─► bucket ─► record ─► older record ─► 0        new records go to the head by CAS
//                               ├ live / total / estimated       added to atomically
//                               └ frames
//
// Invariants
//   1. A handle given out lies below next_ (private), so a corrupt chain in the file is left at the
//      first handle that does not; a walk ends after kMaxSteps.           (hostile content test)
//   2. Two threads that insert one stack get one handle.                     (concurrency test)
//   3. live == sum over the tracked objects that name the stack, once the table is quiet.
// Locks: none.  Never allocates but in the file, by ScopeFile::ensure().
// Called from: preload/ (insert, with no lock held) and ObjectTable (count).

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "diag/abi/layout.h"
#include "diag/scope_file.h"

namespace slabscope::diag {

class StackDepot {
 public:
  constexpr StackDepot() = default;
  StackDepot(const StackDepot&) = delete;
  StackDepot& operator=(const StackDepot&) = delete;

  // Once, after ScopeFile::open(). `file` must outlive the depot.
  void init(ScopeFile& file);

  // The stack's handle; 0 if it is empty or there is no room (counted). `generation` is the module
  // table's. `is_new` (may be null) tells whether this call stored the stack; the caller then says
  // note_stack() to the module table and set_generation() to us.
  [[nodiscard]] uint32_t insert(const uintptr_t* frames, unsigned count, uint32_t generation,
                                bool* is_new);
  void set_generation(uint32_t handle, uint32_t generation);

  // One tracked object more or less; `interval` as in ObjectRecord. Ignores handles that cannot be.
  void add(uint32_t handle, uint64_t size, uint32_t interval);
  void remove(uint32_t handle, uint64_t size, uint32_t interval);
  // The object's size changed.
  void resize(uint32_t handle, uint64_t old_size, uint64_t new_size, uint32_t interval);

  // Many stacks are to come, where few were: more buckets. Two threads that insert one stack just
  // then may store it twice.
  void widen();

  // A new high-water mark: from now on a stack keeps, beside its live numbers, what they were when
  // this was called. Each does so when it first changes; nothing is copied here.
  void begin_peak(uint32_t epoch) { peak_epoch_.store(epoch, std::memory_order_release); }

  // All live numbers become 0: the object table was given up (a fork child with too much in it).
  void forget_live();

  // The record, or null if there is none with this handle.
  [[nodiscard]] abi::StackRecord* find(uint32_t handle) const;
  static uint64_t* frames_of(abi::StackRecord* record) {
    return reinterpret_cast<uint64_t*>(record + 1);
  }

  // Calls visit(handle, record) for each stack; bounded, whatever the file holds.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    uint32_t handle = kFirstHandle;
    const uint32_t end = next_.load(std::memory_order_acquire);
    while (handle < end) {
      abi::StackRecord* record = find(handle);
      if (record == nullptr)
        return;
      const uint32_t frames = record->frame_count;
      if (frames == 0 || frames > abi::kMaxFrames)
        return;
      visit(handle, record);
      handle += record_units(frames);
    }
  }

 private:
  static constexpr uint32_t kUnit = 8;
  static constexpr uint32_t kFirstHandle = abi::kDepotBuckets * sizeof(uint32_t) / kUnit;
  static constexpr uint32_t kSampledBuckets = abi::kPageBytes / sizeof(uint32_t);
  static constexpr unsigned kMaxSteps = 4096;  // a chain has 7 records when the depot is full

  static constexpr uint32_t record_units(uint32_t frames) {
    return abi::kStackRecordBytes / kUnit + frames;
  }
  uint32_t* bucket(uint32_t hash, uint32_t mask) const;
  uint32_t find_in_chain(uint32_t from, uint32_t until, uint32_t hash, const uintptr_t* frames,
                         unsigned count) const;
  uint32_t allocate(uint32_t units);
  SC_NOINLINE void keep_for_peak(abi::StackRecord& record, uint32_t epoch);
  struct Estimate;
  void count(abi::StackRecord& record, uint64_t size, const Estimate& all, uint64_t sign);

  ScopeFile* file_ = nullptr;
  std::atomic<uint32_t> bucket_mask_{0};
  std::atomic<uint32_t> peak_epoch_{0};
  uint32_t first_mask_ = 0;        // what init() chose: stacks may be in the buckets of either
  std::atomic<uint32_t> next_{0};  // kFirstHandle from init() on
};

}  // namespace slabscope::diag
