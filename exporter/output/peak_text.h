// SPDX-License-Identifier: MIT
//
// peak_text: the high-water mark of a process, as a part of its report.

#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "exporter/analysis/heap_peak.h"
#include "exporter/analysis/heap_profile.h"
#include "exporter/output/stack_text.h"

namespace slabscope {

struct ReportPeak {
  uint64_t monotonic_ns = 0;
  uint64_t realtime_ns = 0;
  uint64_t objects = 0;
  uint64_t bytes = 0;
  std::vector<Cache> caches;  // most bytes first
  HeapProfile profile;        // the stacks that held most
};

// With the `stacks` biggest stacks. Symbolizes them.
[[nodiscard]] ReportPeak report_peak(HeapPeak peak, Symbolizer& symbolizer, size_t stacks);

// When it was, beside the end of the process or its last sign of life (or now): "12s before the
// end". Reference 0: unknown.
[[nodiscard]] std::string peak_moment(uint64_t monotonic_ns, uint64_t realtime_ns,
                                      uint64_t reference_ns, bool running);

// `bytes_now`: in use at the end. If that is as much, one line says so.
[[nodiscard]] std::string peak_text(const ReportPeak& peak, uint64_t bytes_now,
                                    uint64_t reference_ns, bool running, const StackStyle& style);
[[nodiscard]] nlohmann::ordered_json peak_json(const ReportPeak& peak, uint64_t reference_ns);

}  // namespace slabscope
