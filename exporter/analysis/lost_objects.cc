// SPDX-License-Identifier: MIT

#include "exporter/analysis/lost_objects.h"

namespace slabscope {

void spread(const LostObjects& lost, std::vector<uint32_t>& marks) {
  std::vector<uint32_t> reached;  // a queue: what is before `next` was looked into
  for (uint32_t object = 0; object < lost.size(); ++object) {
    if (marks[object] != kNoMark) {
      reached.push_back(object);
    }
  }
  for (size_t next = 0; next < reached.size(); ++next) {
    const uint32_t from = reached[next];
    for (uint64_t edge = lost.first[from]; edge < lost.first[from + 1]; ++edge) {
      const uint32_t to = lost.targets[edge];
      if (marks[to] == kNoMark) {
        marks[to] = marks[from];
        reached.push_back(to);
      }
    }
  }
}

}  // namespace slabscope
