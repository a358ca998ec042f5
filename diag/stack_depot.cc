// SPDX-License-Identifier: MIT

#include "diag/stack_depot.h"

#include <cstring>

#include "diag/sampler.h"
#include "slab/base/sole_thread.h"

namespace slabscope::diag {
namespace {

uint32_t hash_frames(const uintptr_t* frames, unsigned count) {
  uint64_t hash = count * 0x9e3779b97f4a7c15;
  for (unsigned i = 0; i < count; ++i) {
    hash = (hash ^ frames[i]) * 0xff51afd7ed558ccd;
    hash ^= hash >> 32;
  }
  return static_cast<uint32_t>(hash);
}

uint32_t load_acquire(uint32_t& word) {
  return std::atomic_ref(word).load(std::memory_order_acquire);
}

}  // namespace

// What one tracked object stands for.
struct StackDepot::Estimate {
  uint64_t bytes;
  uint64_t milliobjects;

  Estimate(uint64_t size, uint32_t interval) : bytes(size), milliobjects(1000) {
    if (interval <= 1)
      return;
    const double weight = sample_weight(size, interval);
    // NOLINTBEGIN(bugprone-incorrect-roundings): there is no libm here, and nothing is negative.
    bytes = static_cast<uint64_t>(weight * static_cast<double>(size) + 0.5);
    milliobjects = static_cast<uint64_t>(weight * 1000 + 0.5);
    // NOLINTEND(bugprone-incorrect-roundings)
  }
};

void StackDepot::init(ScopeFile& file) {
  file_ = &file;
  next_.store(kFirstHandle, std::memory_order_relaxed);
  // Samples have few distinct stacks: one page of buckets does, where all of them would be touched
  // one by one.
  const bool all = file.header()->track_mode == static_cast<uint32_t>(abi::TrackMode::kAll);
  first_mask_ = (all ? abi::kDepotBuckets : kSampledBuckets) - 1;
  bucket_mask_.store(first_mask_, std::memory_order_relaxed);
}

void StackDepot::widen() {
  bucket_mask_.store(abi::kDepotBuckets - 1, std::memory_order_relaxed);
}

uint32_t* StackDepot::bucket(uint32_t hash, uint32_t mask) const {
  return reinterpret_cast<uint32_t*>(file_->depot()) + (hash & mask);
}

abi::StackRecord* StackDepot::find(uint32_t handle) const {
  const uint32_t end = next_.load(std::memory_order_acquire);
  if (handle < kFirstHandle || handle >= end)
    return nullptr;
  auto* record = reinterpret_cast<abi::StackRecord*>(file_->depot() + size_t{handle} * kUnit);
  // The last record may be shorter than its count says, if the file was tampered with.
  const uint32_t left = end - handle;
  if (left < record_units(0) || record->frame_count > left - record_units(0))
    return nullptr;
  return record;
}

// The stack's handle in the chain from `from` up to, not including, `until`; or 0.
uint32_t StackDepot::find_in_chain(uint32_t from, uint32_t until, uint32_t hash,
                                   const uintptr_t* frames, unsigned count) const {
  uint32_t handle = from;
  for (unsigned step = 0; handle != until && step < kMaxSteps; ++step) {
    abi::StackRecord* record = find(handle);
    if (record == nullptr)
      return 0;
    if (record->hash == hash && record->frame_count == count &&
        memcmp(frames_of(record), frames, count * sizeof(uintptr_t)) == 0) {
      return handle;
    }
    handle = load_acquire(record->next);
  }
  return 0;
}

uint32_t StackDepot::allocate(uint32_t units) {
  const auto limit = static_cast<uint32_t>(file_->depot_bytes() / kUnit);
  uint32_t handle = next_.load(std::memory_order_relaxed);
  do {
    if (units > limit - handle)
      return 0;
    // The pages come first: whoever sees the new end may read up to it.
    if (!file_->ensure(file_->depot() + size_t{handle} * kUnit, size_t{units} * kUnit))
      return 0;
    // Pairs with the acquire in find().
  } while (!next_.compare_exchange_weak(handle, handle + units, std::memory_order_acq_rel,
                                        std::memory_order_relaxed));
  add_relaxed(file_->section(abi::kSectionDepot).used, units);
  return handle;
}

uint32_t StackDepot::insert(const uintptr_t* frames, unsigned count, uint32_t generation,
                            bool* is_new) {
  if (is_new != nullptr)
    *is_new = false;
  if (count == 0)
    return 0;
  if (count > abi::kMaxFrames)
    count = abi::kMaxFrames;
  const uint32_t hash = hash_frames(frames, count);
  const uint32_t mask = bucket_mask_.load(std::memory_order_relaxed);
  uint32_t* head = bucket(hash, mask);
  if (!file_->ensure(head, sizeof *head)) {
    add_relaxed(file_->counters().dropped_stacks, 1);
    return 0;
  }
  uint32_t newest = load_acquire(*head);
  if (const uint32_t found = find_in_chain(newest, 0, hash, frames, count))
    return found;
  uint32_t* first = bucket(hash, first_mask_);
  if (SC_UNLIKELY(first != head) && file_->ensure(first, sizeof *first)) {
    if (const uint32_t found = find_in_chain(load_acquire(*first), 0, hash, frames, count))
      return found;
  }

  const uint32_t handle = allocate(record_units(count));
  if (handle == 0) {
    add_relaxed(file_->counters().dropped_stacks, 1);
    return 0;
  }
  auto* record = reinterpret_cast<abi::StackRecord*>(file_->depot() + size_t{handle} * kUnit);
  record->frame_count = count;  // first, so that for_each() can step over a record being written
  record->hash = hash;
  record->generation = generation;
  memcpy(frames_of(record), frames, count * sizeof(uintptr_t));
  for (;;) {
    const uint32_t seen = newest;
    // A head that names no record (tampered with, or stored by our parent after the fork) is
    // dropped.
    const uint32_t next = find(newest) == nullptr ? 0 : newest;
    std::atomic_ref(record->next).store(next, std::memory_order_relaxed);
    // Publishes the record: pairs with load_acquire of a head or a next.
    if (std::atomic_ref(*head).compare_exchange_strong(newest, handle, std::memory_order_acq_rel,
                                                       std::memory_order_acquire)) {
      break;
    }
    // Somebody was faster, perhaps with this very stack; ours then stays unused.
    if (const uint32_t found = find_in_chain(newest, seen, hash, frames, count))
      return found;
  }
  add_relaxed(file_->counters().stacks_stored, 1);
  if (is_new != nullptr)
    *is_new = true;
  return handle;
}

// Before the first change after the peak began. One thread keeps; others that change the stack at
// that very moment may be in the numbers or not.
void StackDepot::keep_for_peak(abi::StackRecord& record, uint32_t epoch) {
  std::atomic_ref kept(record.peak_epoch);
  const uint32_t writing = epoch | abi::kPeakBeingWritten;
  uint32_t before = kept.load(std::memory_order_relaxed);
  if (before == writing ||
      !kept.compare_exchange_strong(before, writing, std::memory_order_relaxed)) {
    return;
  }
  const auto now = [](uint64_t& word) {
    return std::atomic_ref(word).load(std::memory_order_relaxed);
  };
  const auto keep = [](uint64_t& word, uint64_t value) {
    std::atomic_ref(word).store(value, std::memory_order_relaxed);
  };
  std::atomic_ref(record.peak_samples)
      .store(static_cast<uint32_t>(now(record.live_objects)), std::memory_order_relaxed);
  keep(record.peak_estimated_bytes, now(record.estimated_live_bytes));
  keep(record.peak_estimated_milliobjects, now(record.estimated_live_milliobjects));
  kept.store(epoch, std::memory_order_release);
}

// Adds `sign` (1 or -1) objects of `size` bytes, that stand for `all`, to the live numbers.
void StackDepot::count(abi::StackRecord& record, uint64_t size, const Estimate& all,
                       uint64_t sign) {
  const uint32_t epoch = peak_epoch_.load(std::memory_order_relaxed);
  if (SC_UNLIKELY(std::atomic_ref(record.peak_epoch).load(std::memory_order_relaxed) != epoch))
    keep_for_peak(record, epoch);
  add_relaxed(record.live_objects, sign);
  add_relaxed(record.live_bytes, sign * size);
  add_relaxed(record.estimated_live_bytes, sign * all.bytes);
  add_relaxed(record.estimated_live_milliobjects, sign * all.milliobjects);
}

void StackDepot::add(uint32_t handle, uint64_t size, uint32_t interval) {
  abi::StackRecord* record = find(handle);
  if (record == nullptr)
    return;
  const Estimate all(size, interval);
  count(*record, size, all, 1);
  add_relaxed(record->estimated_total_bytes, all.bytes);
  add_relaxed(record->estimated_total_milliobjects, all.milliobjects);
}

void StackDepot::remove(uint32_t handle, uint64_t size, uint32_t interval) {
  abi::StackRecord* record = find(handle);
  if (record != nullptr)
    count(*record, size, Estimate(size, interval), ~uint64_t{0});
}

void StackDepot::resize(uint32_t handle, uint64_t old_size, uint64_t new_size, uint32_t interval) {
  abi::StackRecord* record = find(handle);
  if (record == nullptr)
    return;
  const Estimate before(old_size, interval);
  const Estimate after(new_size, interval);
  count(*record, old_size, before, ~uint64_t{0});
  count(*record, new_size, after, 1);
  // It is the same object: only what it grew by is new.
  if (after.bytes > before.bytes)
    add_relaxed(record->estimated_total_bytes, after.bytes - before.bytes);
}

void StackDepot::set_generation(uint32_t handle, uint32_t generation) {
  abi::StackRecord* record = find(handle);
  if (record == nullptr)
    return;
  std::atomic_ref(record->generation).store(generation, std::memory_order_relaxed);
}

void StackDepot::forget_live() {
  for_each([](uint32_t, abi::StackRecord* record) {
    record->live_objects = 0;
    record->live_bytes = 0;
    record->estimated_live_bytes = 0;
    record->estimated_live_milliobjects = 0;
  });
}

}  // namespace slabscope::diag
