// SPDX-License-Identifier: MIT

#include "exporter/output/deaths.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <ostream>

#include "exporter/base/saturating.h"
#include "exporter/base/text.h"
#include "exporter/output/json.h"
#include "exporter/output/phrases.h"
#include "exporter/source/attach.h"
#include "exporter/source/attach_tables.h"
#include "exporter/source/targets.h"

namespace slabscope {
namespace {

using Json = nlohmann::ordered_json;

// CLOCK_MONOTONIC of the last thing on record.
uint64_t last_sign(const Snapshot& snapshot, const OpenScope& scope) {
  uint64_t last = snapshot.target.start_monotonic_ns;
  for (const Thread& thread : snapshot.threads) {
    last = std::max(last, thread.started_monotonic_ns);
  }
  visit_objects(
      scope.reader, scope.header.sections[abi::kSectionObjects],
      [&](const abi::ObjectRecord& object) { last = std::max(last, object.when_monotonic_ns); });
  return last;
}

std::optional<Death> look_at(const TargetInfo& target) {
  const Result<Snapshot> snapshot = attach(target.path);
  const Result<OpenScope> scope = open_scope(target.path);
  if (!snapshot || !scope) {
    return std::nullopt;
  }
  Death death;
  death.target = target;
  for (const Cache& cache : snapshot->caches) {
    if (cache.kind != abi::CacheKind::kOwn) {  // what the shim's start allocated is its own
      death.live_objects = saturating_sum(death.live_objects, cache.active_objects());
      death.live_bytes = saturating_sum(death.live_bytes, cache.active_bytes());
    }
  }
  death.end_known = target.end_monotonic_ns != 0;
  const uint64_t end = death.end_known ? target.end_monotonic_ns : last_sign(*snapshot, *scope);
  death.end_realtime_ns = saturating_sum(target.start_realtime_ns,
                                         Cache::clamped_difference(end, target.start_monotonic_ns));
  return death;
}

}  // namespace

std::vector<Death> find_deaths() {
  std::vector<Death> deaths;
  for (const FoundTarget& found : find_targets()) {
    if (found.info && found.info->state != TargetState::kRunning) {
      if (std::optional<Death> death = look_at(*found.info)) {
        deaths.push_back(std::move(*death));
      }
    }
  }
  std::stable_sort(deaths.begin(), deaths.end(), [](const Death& a, const Death& b) {
    return a.end_realtime_ns > b.end_realtime_ns;
  });
  return deaths;
}

void print_deaths(const std::vector<Death>& deaths, std::ostream& out, Color color) {
  Table table({{"PID"},
               {"HOW", Align::kLeft},
               {"WHEN", Align::kLeft},
               {"LIFETIME"},
               {"LIVE OBJECTS"},
               {"LIVE"},
               {"COMMAND", Align::kLeft}});
  for (const Death& death : deaths) {
    const TargetInfo& target = death.target;
    const uint64_t lived =
        Cache::clamped_difference(death.end_realtime_ns, target.start_realtime_ns);
    const char* after = death.end_known ? "" : "after ";
    table.add_row({std::to_string(target.pid), std::string(to_string(target.state)),
                   after + date_text(death.end_realtime_ns),
                   (death.end_known ? "" : "> ") + duration_text(lived),
                   std::to_string(death.live_objects), human_bytes(death.live_bytes), target.comm});
  }
  if (table.empty()) {
    out << "no process that ended has left a scope file\n";
    return;
  }
  table.print(out, color);
}

std::string deaths_json(const std::vector<Death>& deaths) {
  Json targets = Json::array();
  for (const Death& death : deaths) {
    Json json = target_json(death.target);
    const double end = json_seconds(death.end_realtime_ns);
    json["end_time_seconds"] = death.end_known ? Json(end) : Json();
    json["last_sign_time_seconds"] = end;
    json["live_objects"] = death.live_objects;
    json["live_bytes"] = death.live_bytes;
    targets.push_back(std::move(json));
  }
  return dump({{"schema", 1}, {"targets", std::move(targets)}});
}

}  // namespace slabscope
