// SPDX-License-Identifier: MIT
//
// The report as a program reads it. The schema is docs/reports.md; a key once there stays.

#include <nlohmann/json.hpp>

#include "exporter/report.h"

namespace slabscope {
namespace {

using Json = nlohmann::ordered_json;

double seconds(uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

Json optional_seconds(uint64_t ns) {
  return ns == 0 ? Json(nullptr) : Json(seconds(ns));
}

Json totals_json(const ObjectTotals& totals) {
  return {{"objects", totals.objects}, {"bytes", totals.bytes}};
}

Json target_json(const ReportTarget& target) {
  return {{"pid", target.pid},
          {"parent_pid", target.parent_pid},
          {"uid", target.uid},
          {"comm", target.comm},
          {"app", target.app},
          {"exe", target.exe},
          {"state", target.state},
          {"start_time_seconds", optional_seconds(target.start_realtime_ns)},
          {"end_time_seconds", optional_seconds(target.end_realtime_ns)},
          {"run_time_seconds", optional_seconds(target.ran_ns)},
          {"track", target.track},
          {"sample_interval_bytes", target.sample_interval},
          {"shim_version", target.shim_version},
          {"file", target.path}};
}

Json cache_json(const CacheRemainder& cache) {
  return {{"name", cache.name},
          {"kind", cache.kind},
          {"object_size_bytes", cache.object_size},
          {"active_objects", cache.remaining.objects},
          {"active_bytes", cache.remaining.bytes},
          {"allocations_total", cache.allocations_total},
          {"frees_total", cache.frees_total},
          {"peak_active_objects", cache.peak_objects},
          {"stack_objects", cache.explained.objects},
          {"stack_bytes", cache.explained.bytes}};
}

Json frame_json(const SymbolFrame& frame) {
  return {{"function", frame.function}, {"file", frame.file},     {"line", frame.line},
          {"module", frame.module},     {"offset", frame.offset}, {"build_id", frame.build_id},
          {"inlined", frame.inlined}};
}

Json leak_json(const LeakEntry& entry) {
  Json stack = Json::array();
  for (const SymbolFrame& frame : entry.stack) {
    stack.push_back(frame_json(frame));
  }
  return {{"class", entry.leak_class},    {"objects", entry.objects}, {"bytes", entry.bytes},
          {"estimated", entry.estimated}, {"samples", entry.samples}, {"caches", entry.caches},
          {"stack", std::move(stack)}};
}

}  // namespace

std::string report_json(const LeakReport& report) {
  Json caches = Json::array();
  for (const CacheRemainder& cache : report.caches) {
    caches.push_back(cache_json(cache));
  }
  Json leaks = Json::array();
  for (const LeakEntry& entry : report.leaks) {
    leaks.push_back(leak_json(entry));
  }
  const ObjectTotals none;
  const Json root = {{"schema", 1},
                     {"target", target_json(report.target)},
                     {"reachability", report.reachability},
                     {"totals",
                      {{"definite", totals_json(none)},
                       {"indirect", totals_json(none)},
                       {"reachable", totals_json(none)},
                       {"unchecked", totals_json(report.unchecked)},
                       {"by_stack", totals_json(report.explained)}}},
                     {"estimated", report.estimated},
                     {"samples", report.samples},
                     {"dropped",
                      {{"objects", report.dropped_objects},
                       {"stacks", report.dropped_stacks},
                       {"modules", report.dropped_modules}}},
                     {"caches", std::move(caches)},
                     {"leaks", std::move(leaks)}};
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace slabscope
