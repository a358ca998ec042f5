// SPDX-License-Identifier: MIT
//
// LostObjects: which lost objects lead to which, as a graph of numbers.
//
//   object i ─► targets[first[i] … first[i + 1])      lost objects that i points to
//        └────► group[i], an index into LeakCheck::groups: its class, stack and cache
//
//   marks of some objects ─► spread() ─► each object has the mark that leads to it
//
// Two questions are answered with it, after the process went on: which definite leak an indirect
// one hangs on, and what goes with a leak that is suppressed.
// Invariant: spread() visits each object and each pointer once.               (reachability_test)
// Called from: leak_check.cc, output/report_entries.cc.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace slabscope {

struct LostObjects {
  std::vector<uint32_t> group;
  std::vector<uint64_t> bytes;    // as requested, where that is known
  std::vector<uint64_t> first;    // one more than there are objects
  std::vector<uint32_t> targets;  // numbers of objects

  [[nodiscard]] size_t size() const { return group.size(); }
};

inline constexpr uint32_t kNoMark = UINT32_MAX;

// Gives every object without a mark that of the nearest marked one that leads to it; of several as
// near, that of the lowest number.
void spread(const LostObjects& lost, std::vector<uint32_t>& marks);

}  // namespace slabscope
