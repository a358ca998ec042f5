// SPDX-License-Identifier: MIT
//
// ObjectTable: the tracked objects that are live now, in the scope file, each named by an index.
//
//   add ─► own shard's free list ─► last helpful shard ─► all shards ─► fresh batch ─► record
//   remove ─► record.address = 0 ─► own shard's free list
//
// Invariants
//   1. Free lists live in private memory (links_); the file's records are written and checked, so a
//      hostile record can spoil numbers and nothing else.                 (hostile record test)
//   2. An index is on one free list or owned by one object.                  (concurrency test)
//   3. Indexes that others freed are reused before fresh ones are taken: the table stays as long as
//      the most objects that were live at once, plus a batch a shard.           (growth test)
// Locks: none; heads are compare-and-swapped with a tag against ABA.
// Called from: preload/, with no lock held.  Never allocates but in the file.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "diag/abi/layout.h"
#include "diag/scope_file.h"
#include "diag/stack_depot.h"

namespace slabscope::diag {

class ObjectTable {
 public:
  constexpr ObjectTable() = default;
  ObjectTable(const ObjectTable&) = delete;
  ObjectTable& operator=(const ObjectTable&) = delete;

  // Once, after ScopeFile::open(). Both must outlive the table. False: no memory, add() drops all.
  bool init(ScopeFile& file, StackDepot& depot);

  // The index (>= 1) of a new record; counts the object with its stack. 0: dropped and counted.
  [[nodiscard]] uint32_t add(uintptr_t address, size_t size, uint32_t stack, uint16_t cache,
                             uint32_t interval);
  // An add() follows soon: lets the memory that it will write come nearer meanwhile.
  void expect_add() const;
  // The object is gone. An index that is not in use is ignored.
  void remove(uint32_t index);
  // A remove() of this index follows soon; likewise.
  void expect_remove(uint32_t index) const;
  // The object is now `size` bytes long, at the same address.
  void resize(uint32_t index, size_t size);

  // Drops every record: for a fork child that kept none (ForkKept::kNoObjects). Indexes given out
  // before are ignored by remove() from now on. One thread only.
  void forget();

  // One past the highest index that may be in use.
  uint32_t end() const { return end_.load(std::memory_order_acquire); }
  // A refused destruction of its cache found the object in use.
  void mark_remained(uint32_t index);

  // The record, or null if the index is not in use.
  [[nodiscard]] const abi::ObjectRecord* find(uint32_t index) const;

  // The table's memory outside the file, for whoever must tell it from the program's.
  struct PrivateMemory {
    const void* pointer;    // of the variable that holds its address
    const uint32_t* count;  // of the variable that holds its length
    uint32_t unit_bytes;
  };
  PrivateMemory private_memory() const { return {&links_, &limit_, sizeof(*links_)}; }

 private:
  static constexpr uint32_t kShards = 16;
  static constexpr uint32_t kBatch = 32;  // fresh records a shard takes at once

  struct alignas(64) Shard {
    std::atomic<uint64_t> head{0};    // tag << 32 | index, index 0: empty
    std::atomic<uint64_t> fresh{0};   // end << 32 | next
    std::atomic<uint32_t> helper{0};  // the shard that last had something for this one
  };

  static uint32_t shard_of_thread();
  uint32_t pop(Shard& shard);
  void push(Shard& shard, uint32_t index);
  uint32_t take(uint32_t shard_number);
  SC_NOINLINE uint32_t take_slow(uint32_t shard_number);
  uint32_t take_fresh(Shard& shard);
  bool refill_fresh(Shard& shard);
  abi::ObjectRecord* record(uint32_t index) const { return file_->objects() + index; }
  bool in_range(uint32_t index) const {
    return index >= begin_ && index < end_.load(std::memory_order_acquire);
  }

  ScopeFile* file_ = nullptr;
  StackDepot* depot_ = nullptr;
  std::atomic<uint32_t>* links_ = nullptr;  // next free index, by index; private
  uint32_t limit_ = 0;
  uint32_t begin_ = 0;  // 1 from init() on; lower indexes are none, or forgotten
  std::atomic<uint32_t> end_{
      0};  // from init() on: one past the highest index ever handed to a shard
  std::array<Shard, kShards> shards_{};
};

}  // namespace slabscope::diag
