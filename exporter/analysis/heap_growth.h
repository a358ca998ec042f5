// SPDX-License-Identifier: MIT
//
// HeapGrowth: what grew between two looks at a heap, stack by stack.
//
//   HeapProfile before ─┐  frames that look the same are one, whichever look they come from
//   HeapProfile now    ─┴─► now - before, biggest growth first
//
// Invariants
//   1. The sum over `stacks` is the difference of the two profiles' sums.     (heap_growth_test)
//   2. Variances add up, less what both looks have in common: a sample that is in both is the same
//      object, and its error cancels. Without that knowledge (a file from another time or process)
//      the error is stated as if the looks were independent: too large, never too small.
// What grew may be in use: nothing here is called a leak.
// Called from: commands/heap.cc, output/heap_json.cc, output/heap_text.cc.

#pragma once

#include <vector>

#include "exporter/analysis/heap_profile.h"

namespace slabscope {

struct GrownStack {
  Estimate objects;  // now less before; may be negative
  Estimate bytes;
  HeapStack now;  // all zero if nothing of it lives now; its `stack` indexes HeapGrowth::frames
  Estimate objects_before;
  Estimate bytes_before;
  bool estimated = false;

  // Whether the growth in bytes is more than chance: twice its standard error.
  bool certain() const { return bytes.value > 2 * bytes.standard_error(); }
};

struct HeapGrowth {
  TargetInfo before;
  TargetInfo now;
  double seconds = 0;  // from one look to the other
  std::vector<SymbolFrame> frames;
  std::vector<GrownStack> stacks;  // those that changed
  Estimate objects;                // sums over all of them
  Estimate bytes;
  bool estimated = false;
  uint64_t exact_bytes_before = 0;  // by the counters of the caches
  uint64_t exact_bytes_now = 0;
};

[[nodiscard]] HeapGrowth heap_growth(const HeapProfile& before, const HeapProfile& now);

}  // namespace slabscope
