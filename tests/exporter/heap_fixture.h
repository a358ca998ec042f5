// SPDX-License-Identifier: MIT
//
// HeapBuilder: a process of which everything is known, and nothing lies on this host's disk.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "exporter/analysis/heap_profile.h"
#include "exporter/base/clock.h"
#include "exporter/source/object_summary.h"
#include "exporter/source/snapshot.h"

namespace slabscope::testing {

constexpr uint64_t kProgram = 0x555500000000;  // where the modules lie
constexpr uint64_t kLibrary = 0x7f0000000000;

class HeapBuilder {
 public:
  explicit HeapBuilder(uint32_t interval = 1) {
    TargetInfo& target = snapshot.target;
    target.state = TargetState::kRunning;
    target.pid = 4711;
    target.comm = "server";
    target.exe = "/srv/app/server";
    target.start_realtime_ns = 1'700'000'000 * kSecondNs;
    target.start_monotonic_ns = 100 * kSecondNs;
    target.read_monotonic_ns = 190 * kSecondNs;
    target.track_mode = interval == 1 ? abi::TrackMode::kAll : abi::TrackMode::kSampled;
    target.sample_interval = interval;
    interval_ = interval;
    add_module("/lib/libc.so.6", kLibrary, 0xbb);
    add_module("/srv/app/server", kProgram, 0xaa);
  }

  void add_module(const std::string& path, uint64_t start, uint8_t id) {
    Module module;
    module.path = path;
    module.start = start;
    module.end = start + 0x1000000;
    module.bias = start;
    module.build_id.assign(20, id);
    snapshot.modules.push_back(module);
  }
  void add_cache(uint32_t id, const std::string& name, uint32_t size, uint64_t live) {
    Cache& cache = snapshot.caches.emplace_back();
    cache.id = id;
    cache.name = name;
    cache.object_size = size;
    cache.kind = abi::CacheKind::kMalloc;
    cache.state = abi::CacheState::kLive;
    cache.allocations = live;
  }
  uint32_t add_stack(const std::vector<uint64_t>& frames) {
    Stack& stack = snapshot.stacks.emplace_back();
    stack.handle = static_cast<uint32_t>(100 + snapshot.stacks.size());
    stack.frames = frames;
    return stack.handle;
  }
  void add_objects(size_t count, uint64_t size, uint32_t stack, uint16_t cache = 7,
                   uint64_t when_ns = 150 * kSecondNs) {
    for (size_t i = 0; i < count; ++i) {
      snapshot.objects.push_back({next_ += 64, size, when_ns, stack, interval_, cache});
    }
    for (Stack& entry : snapshot.stacks) {
      if (entry.handle == stack) {
        entry.live_objects += count;
        entry.live_bytes += count * size;
        entry.estimated_live_objects += weighed(count, size);
        entry.estimated_live_bytes += static_cast<uint64_t>(weighed(count * size, size));
      }
    }
    add_freed(count, size, stack);
  }
  // Objects of that stack that were tracked; what is not live is free again.
  void add_freed(size_t count, uint64_t size, uint32_t stack) {
    for (Stack& entry : snapshot.stacks) {
      if (entry.handle == stack) {
        entry.estimated_total_objects += weighed(count, size);
        entry.estimated_total_bytes += static_cast<uint64_t>(weighed(count * size, size));
      }
    }
  }

  double weighed(uint64_t amount, uint64_t size) const {
    return static_cast<double>(amount) * object_weight(size, interval_);
  }

  HeapProfile build(Freed freed = Freed::kLeaveOut) const {
    return profile_of(heap_reading(snapshot), freed);
  }
  static HeapProfile profile_of(HeapReading reading, Freed freed = Freed::kLeaveOut) {
    Symbolizer symbolizer;
    HeapOptions options;
    options.freed = freed;
    return build_heap_profile(std::move(reading), symbolizer, options);
  }

  Snapshot snapshot;

 private:
  uint32_t interval_;
  uint64_t next_ = 0x10000;
};

// Three stacks, a node's, a buffer's and one that was not recorded.
inline HeapBuilder typical_heap(uint32_t interval = 1) {
  HeapBuilder builder(interval);
  builder.add_cache(7, "malloc-112", 112, 1000);
  builder.add_cache(9, "malloc-1024", 1024, 3);
  const uint32_t node =
      builder.add_stack({kProgram + 0x1234, kProgram + 0x2000, kLibrary + 0x29d90});
  const uint32_t buffer = builder.add_stack({kLibrary + 0x700, kProgram + 0x2000});
  builder.add_objects(1000, 100, node, 7, 120 * kSecondNs);
  builder.add_objects(2, 1000, buffer, 9, 189 * kSecondNs);
  builder.add_objects(1, 1024, 0, 9);
  return builder;
}

}  // namespace slabscope::testing
