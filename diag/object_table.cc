// SPDX-License-Identifier: MIT

#include "diag/object_table.h"

#include "slab/base/bits.h"
#include "slab/base/clock.h"
#include "slab/base/sole_thread.h"
#include "slab/pages/vm.h"

namespace slabscope::diag {
namespace {

constexpr uint64_t pack(uint32_t high, uint32_t low) {
  return uint64_t{high} << 32 | low;
}
constexpr uint32_t high_of(uint64_t word) {
  return static_cast<uint32_t>(word >> 32);
}
constexpr uint32_t low_of(uint64_t word) {
  return static_cast<uint32_t>(word);
}

uint64_t load_address(abi::ObjectRecord& record) {
  return std::atomic_ref(record.address).load(std::memory_order_acquire);
}

}  // namespace

bool ObjectTable::init(ScopeFile& file, StackDepot& depot) {
  file_ = &file;
  depot_ = &depot;
  begin_ = 1;
  end_.store(1, std::memory_order_relaxed);
  const uint32_t limit = file.object_limit();
  const size_t bytes = align_up(limit * sizeof(uint32_t), vm::kOsPage);
  links_ = static_cast<std::atomic<uint32_t>*>(vm::map(bytes));
  if (links_ == nullptr)
    return false;
  vm::exclude_from_dumps(links_, bytes);
  limit_ = limit;
  return true;
}

uint32_t ObjectTable::shard_of_thread() {
  // Thread control blocks lie pages apart; the multiplication spreads them.
  const auto self = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
  return static_cast<uint32_t>((self >> 6) * 0x9e3779b97f4a7c15 >> 60) % kShards;
}

uint32_t ObjectTable::pop(Shard& shard) {
  uint64_t head = shard.head.load(std::memory_order_relaxed);
  while (low_of(head) != 0) {
    // May be stale if another thread takes the index meanwhile; the tag then differs.
    const uint32_t next = links_[low_of(head)].load(std::memory_order_relaxed);
    // Pairs with the release in push(): what its owner did to the record is done.
    if (exchange_if(shard.head, head, pack(high_of(head) + 1, next), std::memory_order_acquire))
      return low_of(head);
  }
  return 0;
}

void ObjectTable::push(Shard& shard, uint32_t index) {
  uint64_t head = shard.head.load(std::memory_order_relaxed);
  do {
    links_[index].store(low_of(head), std::memory_order_relaxed);
    // Pairs with the acquire in pop(): the link and the cleared record are seen by the next owner.
  } while (
      !exchange_if(shard.head, head, pack(high_of(head) + 1, index), std::memory_order_release));
}

uint32_t ObjectTable::take_fresh(Shard& shard) {
  uint64_t fresh = shard.fresh.load(std::memory_order_acquire);
  while (low_of(fresh) != high_of(fresh)) {
    if (shard.fresh.compare_exchange_weak(fresh, pack(high_of(fresh), low_of(fresh) + 1),
                                          std::memory_order_acquire, std::memory_order_acquire)) {
      return low_of(fresh);
    }
  }
  return 0;
}

// Puts a batch of indexes that were never used before on the shard. False: the table is full.
bool ObjectTable::refill_fresh(Shard& shard) {
  uint32_t begin = end_.load(std::memory_order_relaxed);
  uint32_t batch;
  do {
    batch = limit_ - begin < kBatch ? limit_ - begin : kBatch;
    if (limit_ <= begin || !file_->ensure(record(begin), batch * sizeof(abi::ObjectRecord))) {
      return false;
    }
    // Pairs with the acquire in in_range(): the pages are there.
  } while (!end_.compare_exchange_weak(begin, begin + batch, std::memory_order_acq_rel,
                                       std::memory_order_relaxed));
  std::atomic_ref(file_->section(abi::kSectionObjects).used)
      .fetch_add(begin == 1 ? batch + 1 : batch, std::memory_order_relaxed);
  uint64_t fresh = shard.fresh.load(std::memory_order_relaxed);
  while (low_of(fresh) == high_of(fresh)) {
    if (shard.fresh.compare_exchange_weak(fresh, pack(begin + batch, begin),
                                          std::memory_order_release, std::memory_order_relaxed)) {
      return true;
    }
  }
  // A thread of the same shard brought a batch too: ours goes to the free list.
  for (uint32_t index = begin; index < begin + batch; ++index)
    push(shard, index);
  return true;
}

uint32_t ObjectTable::take_slow(uint32_t shard_number) {
  Shard& own = shards_[shard_number];
  const uint32_t helper = own.helper.load(std::memory_order_relaxed);
  if (const uint32_t index = pop(shards_[helper]))
    return index;
  if (const uint32_t index = take_fresh(own))
    return index;
  for (uint32_t other = 0; other < kShards; ++other) {
    if (const uint32_t index = pop(shards_[other])) {
      own.helper.store(other, std::memory_order_relaxed);
      return index;
    }
  }
  while (refill_fresh(own)) {
    if (const uint32_t index = take_fresh(own))
      return index;
    if (const uint32_t index = pop(own))
      return index;
  }
  // Full: what other shards keep for themselves is the last there is.
  for (Shard& shard : shards_) {
    if (const uint32_t index = take_fresh(shard))
      return index;
    if (const uint32_t index = pop(shard))
      return index;
  }
  return 0;
}

void ObjectTable::expect_add() const {
  const uint32_t index = low_of(shards_[shard_of_thread()].head.load(std::memory_order_relaxed));
  if (index == 0)
    return;
  __builtin_prefetch(&links_[index]);
  expect_remove(index);
}

// A prefetch of what lies nowhere does nothing.
void ObjectTable::expect_remove(uint32_t index) const {
  __builtin_prefetch(record(index), 1);
  __builtin_prefetch(reinterpret_cast<const char*>(record(index) + 1) - 1, 1);
}

uint32_t ObjectTable::take(uint32_t shard_number) {
  const uint32_t index = pop(shards_[shard_number]);
  return SC_LIKELY(index != 0) ? index : take_slow(shard_number);
}

uint32_t ObjectTable::add(uintptr_t address, size_t size, uint32_t stack, uint16_t cache,
                          uint32_t interval) {
  const uint32_t index = address == 0 ? 0 : take(shard_of_thread());
  if (index == 0) {
    add_relaxed(file_->counters().dropped_objects, 1);
    return 0;
  }
  abi::ObjectRecord& object = *record(index);
  object.size = size;
  object.when_monotonic_ns = coarse_monotonic_ns();
  object.stack = stack;
  object.interval = interval;
  object.cache = cache;
  object.remained = 0;
  ++object.sequence;
  std::atomic_ref(object.address).store(address, std::memory_order_release);
  depot_->add(stack, size, interval);
  return index;
}

void ObjectTable::remove(uint32_t index) {
  if (!in_range(index))
    return;
  abi::ObjectRecord& object = *record(index);
  if (load_address(object) == 0)
    return;
  depot_->remove(object.stack, object.size, object.interval);
  std::atomic_ref(object.address).store(0, std::memory_order_release);
  push(shards_[shard_of_thread()], index);
}

void ObjectTable::resize(uint32_t index, size_t size) {
  if (!in_range(index))
    return;
  abi::ObjectRecord& object = *record(index);
  if (load_address(object) == 0)
    return;
  depot_->resize(object.stack, object.size, size, object.interval);
  std::atomic_ref(object.size).store(size, std::memory_order_relaxed);
}

void ObjectTable::mark_remained(uint32_t index) {
  abi::ObjectRecord& object = *record(index);
  if (find(index) != nullptr && object.remained != UINT16_MAX)
    ++object.remained;
}

void ObjectTable::forget() {
  for (Shard& shard : shards_) {
    shard.head.store(0, std::memory_order_relaxed);
    shard.fresh.store(0, std::memory_order_relaxed);
  }
  // Indexes given out so far may still be named by objects, so they stay out of use for ever.
  begin_ = end_.load(std::memory_order_relaxed);
}

const abi::ObjectRecord* ObjectTable::find(uint32_t index) const {
  if (!in_range(index))
    return nullptr;
  abi::ObjectRecord& object = *record(index);
  return load_address(object) == 0 ? nullptr : &object;
}

}  // namespace slabscope::diag
