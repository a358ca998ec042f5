// SPDX-License-Identifier: MIT
//
// The report as a program reads it. The schema is docs/reports.md; a key once there stays.

#include <nlohmann/json.hpp>

#include "exporter/base/text.h"
#include "exporter/output/event_text.h"
#include "exporter/output/json.h"
#include "exporter/output/report.h"

namespace slabscope {
namespace {

using Json = nlohmann::ordered_json;

Json totals_json(const ObjectTotals& totals) {
  return {{"objects", totals.objects}, {"bytes", totals.bytes}};
}

// The target as every command prints it, when it ended, and with what, if its parent is us.
Json ended_target_json(const LeakReport& report) {
  const TargetInfo& target = report.target;
  Json json = target_json(target);
  const std::optional<uint64_t> lifetime = lifetime_ns(target);
  if (target.state == TargetState::kRunning || !lifetime.has_value()) {
    json["end_time_seconds"] = nullptr;
  } else {
    json["end_time_seconds"] = json_seconds(target.start_realtime_ns + *lifetime);
  }
  const Json number = report.end.has_value() ? Json(report.end->number) : Json();
  const bool killed = report.end.has_value() && report.end->killed;
  json["exit_code"] = killed ? Json() : number;
  json["signal"] = killed ? number : Json();
  return json;
}

Json remainder_json(const CacheRemainder& row) {
  Json json = cache_json(row.cache);
  json["stack_objects"] = row.explained.objects;
  json["stack_bytes"] = row.explained.bytes;
  return json;
}

Json owners_json(const LeakEntry& entry) {
  Json json = Json::array();
  for (const LeakOwner& owner : entry.owners) {
    json.push_back({{"leak", owner.leak ? Json(*owner.leak) : Json()},
                    {"objects", owner.held.objects},
                    {"bytes", owner.held.bytes}});
  }
  return json;
}

Json leak_json(const LeakEntry& entry) {
  Json stack = Json::array();
  for (const SymbolFrame& frame : entry.stack) {
    stack.push_back(frame_json(frame));
  }
  Json json = {{"class", entry.leak_class}, {"objects", entry.objects},
               {"bytes", entry.bytes},      {"estimated", entry.estimated},
               {"samples", entry.samples},  {"caches", entry.caches}};
  if (entry.leak_class == to_string(LeakClass::kDefinite)) {
    json["holds"] = totals_json(entry.holds);
  } else if (entry.leak_class == to_string(LeakClass::kIndirect)) {
    json["owners"] = owners_json(entry);
    json["in_cycles"] = totals_json(entry.in_cycles);
  }
  json["stack"] = std::move(stack);
  return json;
}

Json suppressions_json(const LeakReport& report) {
  Json json = Json::array();
  for (const SuppressedLeaks& suppressed : report.suppressed) {
    json.push_back({{"template", printable_utf8(suppressed.pattern)},
                    {"objects", suppressed.taken.objects},
                    {"bytes", suppressed.taken.bytes}});
  }
  return json;
}

// How the search for pointers went; null if there was none.
Json check_json(const LeakReport& report) {
  if (!report.checked) {
    return {};
  }
  const CheckedTotals& checked = *report.checked;
  return {
      {"pause_seconds", static_cast<double>(checked.pause.count()) / 1e9},
      {"in_place_reason", checked.in_place_reason.empty() ? Json() : Json(checked.in_place_reason)},
      {"damaged_records", checked.damaged}};
}

// Appends the entries to an object's text, a line each: a large program has tens of thousands of
// stacks, and a tree of all their frames would take gigabytes.
std::string with_leaks(std::string text, const std::vector<LeakEntry>& leaks) {
  text.resize(text.rfind('}'));
  text.resize(text.find_last_not_of(" \n") + 1);
  text += ",\n  \"leaks\": [";
  const char* separator = "\n    ";
  for (const LeakEntry& entry : leaks) {
    text += separator;
    text += leak_json(entry).dump(-1, ' ', false, Json::error_handler_t::replace);
    separator = ",\n    ";
  }
  text += leaks.empty() ? "]\n}\n" : "\n  ]\n}\n";
  return text;
}

}  // namespace

std::string report_json(const LeakReport& report) {
  Json caches = Json::array();
  for (const CacheRemainder& cache : report.caches) {
    caches.push_back(remainder_json(cache));
  }
  Json events = Json::array();
  for (const HeapEvent& event : report.events) {
    events.push_back(event_json(event));
  }
  const CheckedTotals checked = report.checked.value_or(CheckedTotals());
  const Json root = {{"schema", 1},
                     {"target", ended_target_json(report)},
                     {"reachability", report.reachability},
                     {"check", check_json(report)},
                     {"totals",
                      {{"definite", totals_json(checked.definite)},
                       {"indirect", totals_json(checked.indirect)},
                       {"reachable", totals_json(checked.reachable)},
                       {"suppressed", totals_json(suppressed_total(report))},
                       {"unchecked", totals_json(report.unchecked)},
                       {"by_stack", totals_json(report.explained)}}},
                     {"estimated", report.estimated},
                     {"samples", report.samples},
                     {"dropped",
                      {{"objects", report.dropped_objects},
                       {"stacks", report.dropped_stacks},
                       {"modules", report.dropped_modules}}},
                     {"suppressions", suppressions_json(report)},
                     {"peak", report.peak ? peak_json(*report.peak, report.last_sign_ns) : Json()},
                     {"events", std::move(events)},
                     {"caches", std::move(caches)}};
  return with_leaks(dump(root), report.leaks);
}

}  // namespace slabscope
