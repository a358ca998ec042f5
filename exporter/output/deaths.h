// SPDX-License-Identifier: MIT
//
// deaths: every process that ended and whose scope file is still there, newest first.
//
//   find_targets() ─► not running ─► attach: what it held ─► table | JSON
//
// When a process died that did not say so is in no file; the last thing it is known to have done (a
// tracked allocation, a thread started) is, and the table says "after".

#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "exporter/output/table.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

struct Death {
  TargetInfo target;
  uint64_t live_objects = 0;  // when it ended, by the counters of the caches
  uint64_t live_bytes = 0;
  uint64_t end_realtime_ns = 0;  // if `end_known`, its end, else the last sign of life
  bool end_known = false;
};

// Files that cannot be read are left out: `slabscope ps` names them.
[[nodiscard]] std::vector<Death> find_deaths();

void print_deaths(const std::vector<Death>& deaths, std::ostream& out, Color color);
[[nodiscard]] std::string deaths_json(const std::vector<Death>& deaths);

}  // namespace slabscope
