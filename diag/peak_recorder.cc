// SPDX-License-Identifier: MIT

#include "diag/peak_recorder.h"

#include "slab/base/clock.h"

namespace slabscope::diag {

bool PeakRecorder::begin() {
  if (file_ == nullptr || !mutex_.try_lock())
    return false;
  abi::PeakRecord* record = file_->peak(epoch_ + 1);
  if (!file_->ensure(record, offsetof(abi::PeakRecord, caches))) {
    mutex_.unlock();
    return false;
  }
  record->epoch = 0;
  complete_ = true;
  count_ = 0;
  objects_ = 0;
  bytes_ = 0;
  return true;
}

void PeakRecorder::add(const abi::PeakCache& cache) {
  if (count_ == abi::kMaxCaches)
    return;
  abi::PeakCache* place = &file_->peak(epoch_ + 1)->caches[count_];
  if (!file_->ensure(place, sizeof *place)) {
    complete_ = false;
    return;
  }
  *place = cache;
  ++count_;
  objects_ += cache.objects;
  bytes_ += cache.bytes;
}

bool PeakRecorder::finish() {
  const bool higher = complete_ && bytes_ > highest_;
  if (higher) {
    const uint64_t epoch = ++epoch_;
    abi::PeakRecord& record = *file_->peak(epoch);
    record.monotonic_ns = monotonic_ns();
    record.realtime_ns = realtime_ns();
    record.objects = objects_;
    record.bytes = bytes_;
    record.cache_count = count_;
    std::atomic_ref(record.epoch).store(epoch, std::memory_order_release);
    // The file first: a process killed between the two has stacks that say what they hold now.
    std::atomic_ref(file_->header()->peak_epoch).store(epoch, std::memory_order_release);
    depot_->begin_peak(static_cast<uint32_t>(epoch) & ~abi::kPeakBeingWritten);
    __atomic_store_n(&highest_, bytes_, __ATOMIC_RELAXED);
  }
  mutex_.unlock();
  return higher;
}

void PeakRecorder::forget_after_fork() {
  mutex_.reset_after_fork();
  highest_ = 0;
  if (file_ != nullptr)
    file_->header()->peak_epoch = 0;
}

}  // namespace slabscope::diag
