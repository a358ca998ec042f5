// SPDX-License-Identifier: MIT
//
// pprof: a heap profile in the format of google/pprof, profile.proto, compressed with gzip.
//
//   HeapProfile ─► sample types  alloc_objects, alloc_space, inuse_objects, inuse_space (default)
//                  mappings      the modules that occur, the program's own first, with build-ids
//                  locations     an address each, its lines innermost first: inlined calls
//                  samples       a stack each, four values
//
//   go tool pprof -top heap.pb.gz      go tool pprof -http : heap.pb.gz
//
// Addresses are those of the call (the return address less one), as pprof expects them.
// alloc_* also counts what was freed; where stacks are sampled all values are estimates, which a
// comment in the profile says.                                             (pprof_test, heap.py)

#pragma once

#include <string>

#include "exporter/analysis/heap_profile.h"
#include "exporter/base/result.h"

namespace slabscope {

// `profile` should be built with Freed::kInclude.
[[nodiscard]] std::string heap_pprof(const HeapProfile& profile);

// The same before compression.
[[nodiscard]] std::string heap_pprof_plain(const HeapProfile& profile);

// All of it from a target's scope file; freed stacks are always included.
[[nodiscard]] Result<std::string> pprof_of_file(const TargetInfo& target, Symbolizer& symbolizer,
                                                const HeapOptions& options = {});

}  // namespace slabscope
