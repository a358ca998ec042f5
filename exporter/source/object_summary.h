// SPDX-License-Identifier: MIT
//
// ObjectSummary: the tracked objects of a process, added up without keeping them.
//
// A sampled object of `size` bytes stands for 1 / (1 - exp(-size / interval)) objects, weighed one
// by one: an average weight over mixed sizes is wrong by orders of magnitude.

#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "exporter/base/result.h"

namespace slabscope {

enum AgeBucket : size_t { kUnderMinute, kUnderTenMinutes, kUnderHour, kOlder, kAgeBuckets };
inline constexpr std::array<const char*, kAgeBuckets> kAgeNames = {"lt_1m", "lt_10m", "lt_1h",
                                                                   "ge_1h"};

struct ObjectSummary {
  uint64_t records = 0;
  double requested_bytes = 0;  // exact when every object is tracked
  std::array<double, kAgeBuckets> bytes_by_age{};
};

// How many objects one tracked object stands for.
double object_weight(uint64_t size, uint32_t interval);

// Tables with more than `max_records` records in use are refused: a scrape must not wait for them.
Result<ObjectSummary> summarize_objects(const std::string& path, uint64_t max_records);

}  // namespace slabscope
