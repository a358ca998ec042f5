// SPDX-License-Identifier: MIT

#include "exporter/source/group_totals.h"

#include <map>

#include "exporter/base/saturating.h"

namespace slabscope {

std::vector<GroupTotals> group_totals(const Snapshot& snapshot) {
  std::vector<GroupTotals> totals(1);
  std::map<uint32_t, size_t> places;  // by number; what is unknown is in no group
  for (const Group& group : snapshot.groups) {
    places[group.number] = totals.size();
    GroupTotals& entry = totals.emplace_back();
    entry.name = group.name;
    entry.group = &group;
  }
  for (const Cache& cache : snapshot.caches) {
    const auto place = places.find(cache.group);
    GroupTotals& entry = totals[place == places.end() ? 0 : place->second];
    entry.active_objects = saturating_sum(entry.active_objects, cache.active_objects());
    entry.active_bytes = saturating_sum(entry.active_bytes, cache.active_bytes());
    entry.slabs = saturating_sum(entry.slabs, cache.stats.slabs);
    entry.allocations += cache.allocations;
    entry.frees += cache.frees;
  }
  return totals;
}

}  // namespace slabscope
