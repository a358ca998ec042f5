// SPDX-License-Identifier: MIT

#include "exporter/output/report.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "exporter/base/saturating.h"
#include "exporter/base/text.h"
#include "exporter/output/report_entries.h"
#include "exporter/output/stack_text.h"
#include "exporter/source/object_summary.h"

namespace slabscope {
namespace {

StacksByHandle stacks_by_handle(const Snapshot& snapshot) {
  StacksByHandle stacks;
  for (const Stack& stack : snapshot.stacks) {
    if (!stack.frames.empty()) {
      stacks.emplace(stack.handle, &stack);
    }
  }
  return stacks;
}

std::string reachability_of(TargetState state) {
  switch (state) {
    case TargetState::kRunning:
      return "not checked: the memory of the process was not searched for pointers";
    case TargetState::kReplaced:
      return "not checked: another program took the place of this one, and its memory is gone";
    case TargetState::kExited:
    case TargetState::kDied:
      break;
  }
  return "not checked: the process has ended, and its memory is gone";
}

// Of a process that died without a word.
uint64_t last_sign(const Snapshot& snapshot) {
  uint64_t last = snapshot.target.start_monotonic_ns;
  for (const Thread& thread : snapshot.threads) {
    last = std::max(last, thread.started_monotonic_ns);
  }
  for (const LiveObject& object : snapshot.objects) {
    last = std::max(last, object.when_monotonic_ns);
  }
  return last;
}

void add_caches(const Snapshot& snapshot, LeakReport& report) {
  for (const Cache& cache : snapshot.caches) {
    if (!cache.ever_used() || cache.kind == abi::CacheKind::kOwn) {
      continue;  // kOwn: what the shim's start allocated is not the program's
    }
    const CacheRemainder row{cache, {}};
    const ObjectTotals left = row.remaining();
    report.unchecked.objects = saturating_sum(report.unchecked.objects, left.objects);
    report.unchecked.bytes = saturating_sum(report.unchecked.bytes, left.bytes);
    report.caches.push_back(row);
  }
}

// What the objects whose stack is known account for, cache by cache.
void explain_caches(const Snapshot& snapshot, const StacksByHandle& stacks, LeakReport& report) {
  std::unordered_map<uint32_t, std::pair<double, double>> sums;
  for (const LiveObject& object : snapshot.objects) {
    if (stacks.contains(object.stack)) {
      const double weight = object_weight(object.size, object.interval);
      sums[object.cache].first += weight;
      sums[object.cache].second += weight * static_cast<double>(object.size);
    }
  }
  for (CacheRemainder& row : report.caches) {
    const auto& [objects, bytes] = sums[row.cache.id];
    row.explained = {rounded(objects), rounded(bytes)};
  }
}

void find_modules_without_lines(const std::set<std::string>& missing, LeakReport& report) {
  std::set<std::string> without;
  std::set<std::string> with;
  for (const LeakEntry& entry : report.leaks) {
    const size_t end = startup_begin(entry.stack);
    for (size_t i = 0; i < end; ++i) {
      const SymbolFrame& frame = entry.stack[i];
      if (!belongs_to_system(frame.module)) {
        (frame.line != 0 ? with : without).insert(frame.module);
      }
    }
  }
  for (const std::string& module : without) {
    if (!with.contains(module)) {
      (missing.contains(module) ? report.modules_missing : report.modules_without_lines)
          .push_back(module);
    }
  }
}

}  // namespace

LeakReport build_report(const Snapshot& snapshot, Symbolizer& symbolizer,
                        const ReportOptions& options, const LeakCheck* check) {
  LeakReport report;
  report.target = snapshot.target;
  report.reachability = reachability_of(snapshot.target.state);
  report.last_sign_ns = snapshot.target.state == TargetState::kRunning
                            ? snapshot.target.read_monotonic_ns
                        : snapshot.target.end_monotonic_ns != 0 ? snapshot.target.end_monotonic_ns
                                                                : last_sign(snapshot);
  report.estimated = snapshot.target.track_mode == abi::TrackMode::kSampled;
  report.dropped_objects = snapshot.counters.dropped_objects;
  report.dropped_stacks = snapshot.counters.dropped_stacks;
  report.dropped_modules = snapshot.counters.dropped_modules;
  add_caches(snapshot, report);
  const StacksByHandle stacks = stacks_by_handle(snapshot);
  explain_caches(snapshot, stacks, report);
  const bool checked = check != nullptr && check->refused.empty();
  if (checked) {
    report.reachability = "checked";
    report.estimated = false;
    CheckedTotals& totals = report.checked.emplace();
    totals.pause = check->pause;
    totals.in_place_reason = check->in_place_reason;
    totals.damaged = check->damaged;
  } else if (check != nullptr) {
    report.reachability = "not checked: " + check->refused;
  }
  symbolizer.begin_process(snapshot.modules, process_context(snapshot.target));
  add_entries(snapshot, stacks, checked ? check : nullptr, symbolizer, options, report);
  find_modules_without_lines(symbolizer.missing_modules(), report);
  std::stable_sort(report.caches.begin(), report.caches.end(),
                   [](const CacheRemainder& a, const CacheRemainder& b) {
                     const ObjectTotals x = a.remaining();
                     const ObjectTotals y = b.remaining();
                     return std::tie(x.bytes, x.objects) > std::tie(y.bytes, y.objects);
                   });
  return report;
}

ObjectTotals suppressed_total(const LeakReport& report) {
  ObjectTotals sum;
  for (const SuppressedLeaks& suppressed : report.suppressed) {
    sum.add(suppressed.taken);
  }
  return sum;
}

bool has_leaks(const LeakReport& report) {
  if (report.checked) {
    return std::any_of(report.leaks.begin(), report.leaks.end(),
                       [](const LeakEntry& entry) { return entry.leak_class != "reachable"; });
  }
  const bool nothing_known = report.entries_below_min == 0 && report.suppressed.empty();
  return report.unchecked.objects != 0 && (!report.leaks.empty() || nothing_known);
}

}  // namespace slabscope
