// SPDX-License-Identifier: MIT
//
// heap_peak: the heap of a process as it was when it was largest.
//
//   Header::peak_epoch ─► PeakRecord (caches) ─┐
//   stacks: kept then, or unchanged since ─────┴─► HeapPeak ─► heap --peak, report
//
// Both are read again if another peak began meanwhile. What is exact: docs/decisions/0014.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "exporter/analysis/heap_groups.h"
#include "exporter/base/result.h"

namespace slabscope {

struct HeapPeak {
  uint64_t monotonic_ns = 0;
  uint64_t realtime_ns = 0;
  uint64_t objects = 0;  // by the counters of the caches
  uint64_t bytes = 0;
  // As HeapReading of that moment: caches have what was in use then, groups the stacks. Ages and
  // caches of stacks are not known.
  HeapReading reading;
};

// Nothing if the process never used much.
[[nodiscard]] Result<std::optional<HeapPeak>> read_heap_peak(const std::string& path);

}  // namespace slabscope
