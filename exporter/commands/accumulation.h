// SPDX-License-Identifier: MIT
//
// Accumulation: objects that the program can still reach, that are older than some age, and of
// which a stack holds more and more.
//
//   first look ─── seconds ───► second look, with a leak check
//   older than AGE then          older than AGE now, and reachable        ─► heap_growth.h
//
// What is lost by the second look is in neither count: that is a leak, and told as one. A cache
// that fills up or is in use all the time has no more old objects than before; what is kept and
// forgotten has. It is "still live, growing", never a leak.
// Called from: leaks.cc.

#pragma once

#include <cstdint>
#include <string>

#include "exporter/analysis/heap_growth.h"
#include "exporter/analysis/leak_check.h"

namespace slabscope {

// For CLI11's check(): "" if the text is a duration such as 90, 90s, 5m or 2h, else what is wrong.
[[nodiscard]] std::string check_duration(const std::string& text);
// Of a text that passed; 0 for none.
[[nodiscard]] uint64_t duration_seconds(const std::string& text);

// What accumulated from `first` to `second`, both of one process; `check` belongs to `second`.
[[nodiscard]] HeapGrowth accumulation(const Snapshot& first, const Snapshot& second,
                                      const LeakCheck& check, uint64_t age_seconds,
                                      Symbolizer& symbolizer, const HeapOptions& options);

}  // namespace slabscope
