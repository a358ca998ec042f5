// SPDX-License-Identifier: MIT
//
// heap_json: a heap profile as JSON, and an earlier one read back (docs/heap.md has the schema).
//
//   HeapProfile ─► heap_json() ─► file ─► read_heap_json() ─► HeapProfile ─► heap_growth()
//
// The file that is read back is hostile like everything else: it is parsed stack by stack, so that
// memory follows what is kept; sizes, depths and numbers are bounded; strings are cleaned.
//                                                                              (heap_json_test)

#pragma once

#include <string>

#include "exporter/analysis/heap_growth.h"
#include "exporter/analysis/heap_profile.h"
#include "exporter/base/result.h"

namespace slabscope {

// Stacks that hold less than `min_bytes` are counted in "left_out", not listed.
[[nodiscard]] std::string heap_json(const HeapProfile& profile, uint64_t min_bytes);
[[nodiscard]] std::string growth_json(const HeapGrowth& growth, uint64_t min_bytes);

[[nodiscard]] Result<HeapProfile> read_heap_json(const std::string& path);

}  // namespace slabscope
