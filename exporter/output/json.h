// SPDX-License-Identifier: MIT
//
// json: snapshots as the JSON that `--json` prints and /api/v1 serves.
//
// Keys are the metric names without their prefix, so that one table names a number everywhere:
//   {"schema": 1, "target": {...}, "process": {...}, "caches": [{...}]}    lists use "targets"
// A key is never removed or given another meaning within one schema; new ones may come.

#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "exporter/analysis/symbolize.h"
#include "exporter/source/snapshot.h"
#include "exporter/source/targets.h"

namespace slabscope {

const char* state_name(abi::CacheState state);
nlohmann::ordered_json target_json(const TargetInfo& target);
nlohmann::ordered_json frame_json(const SymbolFrame& frame);
nlohmann::ordered_json cache_json(const Cache& cache);
nlohmann::ordered_json process_json(const Snapshot& snapshot);
nlohmann::ordered_json snapshot_json(const Snapshot& snapshot);
nlohmann::ordered_json targets_json(const std::vector<FoundTarget>& targets);

// Seconds since the epoch fit a double's 53 bits as microseconds, not as nanoseconds.
double json_seconds(uint64_t nanoseconds);

// Text with a newline at its end; bytes that are not UTF-8 are replaced, never thrown about.
std::string dump(const nlohmann::ordered_json& json);

}  // namespace slabscope
