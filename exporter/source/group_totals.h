// SPDX-License-Identifier: MIT
//
// Group totals: what the caches of each group hold together, and what is in no group. They add up
// to the sums over all caches.

#pragma once

#include <string>
#include <vector>

#include "exporter/source/snapshot.h"

namespace slabscope {

struct GroupTotals {
  std::string name;              // "": in no group
  const Group* group = nullptr;  // in the snapshot; null for what is in no group
  uint64_t active_objects = 0;
  uint64_t active_bytes = 0;
  uint64_t slabs = 0;
  uint64_t allocations = 0;
  uint64_t frees = 0;
};

// First what is in no group, then the groups by number. Points into the snapshot.
[[nodiscard]] std::vector<GroupTotals> group_totals(const Snapshot& snapshot);

}  // namespace slabscope
