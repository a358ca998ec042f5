// SPDX-License-Identifier: MIT
//
// HeapProfile: what a process holds, by the stack that allocated it, biggest first.
//
//   scope file ─► HeapReading ─► Symbolizer ─► HeapProfile ─► text, JSON, pprof, collapsed, html
//   earlier JSON ───────────────────────────────────┘  └─► heap_growth.h
//
// Invariants
//   1. Stacks are sorted by live bytes, then objects, then frames; equal readings give equal
//      profiles.                                                            (heap_profile_test)
//   2. Each HeapStack::stack indexes `frames`; frames that a reader could not tell apart are one.
//   3. `exact` counts every live object, tracked or not; the stacks cover what was tracked.
// Called from: exporter/output, exporter/commands. Plain values: no shared memory behind it.
// Why frames are numbers: a large program has 50,000 stacks of 30 frames, and copies of their names
// would take gigabytes.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "exporter/analysis/heap_groups.h"
#include "exporter/analysis/symbolize.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

struct HeapStack {
  Estimate objects;  // live
  Estimate bytes;    // live, as requested
  Estimate shared_objects;
  Estimate shared_bytes;
  double total_objects = 0;  // allocated since the start, the freed ones too
  double total_bytes = 0;
  bool estimated = false;
  uint64_t samples = 0;
  uint64_t smallest = 0;  // requested sizes; 0 if unknown
  uint64_t largest = 0;
  std::optional<double> oldest_seconds;  // age; nothing if it is not on record
  std::optional<double> newest_seconds;
  std::vector<std::string> caches;  // most objects first
  std::vector<uint32_t> stack;      // of HeapProfile::frames, innermost first
};

struct HeapProfile {
  TargetInfo target;
  std::vector<Module> modules;
  std::vector<SymbolFrame> frames;
  std::vector<HeapStack> stacks;
  uint64_t exact_objects = 0;  // by the counters of the caches
  uint64_t exact_bytes = 0;    // in slots' sizes
  bool estimated = false;      // some stack is
  uint64_t samples = 0;
  uint64_t dropped_objects = 0;
  uint64_t dropped_stacks = 0;
  double time_seconds = 0;  // since the epoch, of this look; of a dead process: of its last sign
};

enum class Freed { kLeaveOut, kInclude };  // stacks of which nothing lives any more

struct HeapOptions {
  Freed freed = Freed::kLeaveOut;
  std::function<void(size_t done, size_t total)> progress;  // now and then while symbolizing
};

// The only function here that opens files: through `symbolizer`, which it gives the modules.
[[nodiscard]] HeapProfile build_heap_profile(HeapReading reading, Symbolizer& symbolizer,
                                             const HeapOptions& options = {});

// Sums over the stacks.
[[nodiscard]] HeapGroup sum_of(const HeapProfile& profile);

}  // namespace slabscope
