// SPDX-License-Identifier: MIT
//
// The stack depot, walked as the shim looks stacks up: bucket by bucket, chain by chain.
//
//   buckets[hash] ─► record ─next─► record ─► 0
//
// A linear scan would trip over a record that is reserved but not yet written; a chain holds only
// finished ones.  Hostile chains end: no record is visited twice, and records that overlap each
// other run out of the budget, which is the size of the depot.

#include <algorithm>
#include <cstring>
#include <optional>

#include "exporter/source/attach_tables.h"

namespace slabscope {
namespace {

constexpr uint64_t kUnitBytes = 8;
constexpr uint64_t kBucketBytes = uint64_t{abi::kDepotBuckets} * sizeof(uint32_t);

class Depot {
 public:
  explicit Depot(std::vector<std::byte> bytes)
      : bytes_(std::move(bytes)), budget_(bytes_.size()), seen_(bytes_.size() / kUnitBytes) {}

  std::vector<Stack> stacks() {
    std::vector<Stack> stacks;
    for (uint64_t at = 0; at < kBucketBytes && at + sizeof(uint32_t) <= bytes_.size();
         at += sizeof(uint32_t)) {
      uint32_t handle = 0;
      std::memcpy(&handle, bytes_.data() + at, sizeof(handle));
      while (handle != 0) {
        std::optional<abi::StackRecord> record = take(handle);
        if (!record) {
          break;
        }
        stacks.push_back(stack_of(handle, *record));
        handle = record->next;
      }
    }
    return stacks;
  }

 private:
  // The record of that handle, when it lies in the depot and was not seen before.
  std::optional<abi::StackRecord> take(uint32_t handle) {
    const uint64_t at = uint64_t{handle} * kUnitBytes;
    if (at < kBucketBytes || at + sizeof(abi::StackRecord) > bytes_.size() || seen_[handle]) {
      return std::nullopt;
    }
    seen_[handle] = true;
    abi::StackRecord record;
    std::memcpy(&record, bytes_.data() + at, sizeof(record));
    const uint64_t size = sizeof(record) + uint64_t{record.frame_count} * sizeof(uint64_t);
    if (record.frame_count > abi::kMaxFrames || at + size > bytes_.size() || size > budget_) {
      return std::nullopt;
    }
    budget_ -= size;
    return record;
  }

  Stack stack_of(uint32_t handle, const abi::StackRecord& record) const {
    Stack stack;
    stack.handle = handle;
    stack.generation = record.generation;
    stack.live_objects = record.live_objects;
    stack.live_bytes = record.live_bytes;
    stack.estimated_total_bytes = record.estimated_total_bytes;
    stack.estimated_total_objects =
        static_cast<double>(record.estimated_total_milliobjects) / 1000.0;
    stack.estimated_live_bytes = record.estimated_live_bytes;
    stack.estimated_live_objects = static_cast<double>(record.estimated_live_milliobjects) / 1000.0;
    stack.peak = {record.peak_epoch, record.peak_samples, record.peak_estimated_bytes,
                  static_cast<double>(record.peak_estimated_milliobjects) / 1000.0};
    stack.frames.resize(record.frame_count);
    if (record.frame_count != 0) {
      std::memcpy(stack.frames.data(),
                  bytes_.data() + uint64_t{handle} * kUnitBytes + sizeof(record),
                  stack.frames.size() * sizeof(uint64_t));
    }
    return stack;
  }

  std::vector<std::byte> bytes_;
  uint64_t budget_;
  std::vector<bool> seen_;
};

}  // namespace

std::vector<Stack> read_stacks(const ScopeReader& reader, const abi::Section& section) {
  // `used` may lag behind a stack that is being stored, so one more page is looked at.
  const uint64_t room = std::min<uint64_t>(uint64_t{section.limit} * kUnitBytes, abi::kDepotBytes);
  const uint64_t used = section.used > room / kUnitBytes
                            ? room
                            : std::min(room, section.used * kUnitBytes + abi::kPageBytes);
  std::vector<std::byte> bytes;
  reader.visit_data(section.offset, section.offset + used, kUnitBytes,
                    [&](uint64_t offset, const std::byte* data, size_t count) {
                      bytes.resize(offset - section.offset);
                      bytes.insert(bytes.end(), data, data + count);
                    });
  std::vector<Stack> stacks = Depot(std::move(bytes)).stacks();
  std::sort(stacks.begin(), stacks.end(),
            [](const Stack& a, const Stack& b) { return a.handle < b.handle; });
  return stacks;
}

}  // namespace slabscope
