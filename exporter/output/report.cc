// SPDX-License-Identifier: MIT

#include "exporter/output/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "exporter/analysis/heap_groups.h"
#include "exporter/analysis/stack_frames.h"
#include "exporter/base/text.h"
#include "exporter/output/stack_text.h"
#include "exporter/source/object_summary.h"

namespace slabscope {
namespace {

constexpr size_t kProgressStep = 256;  // stacks

// What the tracked objects of one stack, or of several that look the same, add up to.
struct Group {
  double objects = 0;
  double bytes = 0;
  bool estimated = false;
  uint64_t samples = 0;
  uint64_t smallest = UINT64_MAX;
  uint64_t largest = 0;
  std::unordered_map<uint32_t, double> caches;  // objects by cache id

  void add(const Group& other) {
    objects += other.objects;
    bytes += other.bytes;
    estimated = estimated || other.estimated;
    samples += other.samples;
    smallest = std::min(smallest, other.smallest);
    largest = std::max(largest, other.largest);
    for (const auto& [cache, count] : other.caches) {
      caches[cache] += count;
    }
  }
};

uint64_t rounded(double value) {
  constexpr double kLargest = 9.2e18;
  return value > kLargest ? UINT64_MAX : static_cast<uint64_t>(std::llround(value));
}

using StacksByHandle = std::unordered_map<uint32_t, const Stack*>;  // those with frames

// What makes an entry of its own, before stacks that look the same are merged.
struct GroupKey {
  std::optional<LeakClass> leak_class;  // nothing: not checked
  uint32_t stack = 0;                   // 0: no stack was kept
  uint32_t cache = 0;                   // of objects without a stack, if checked

  auto operator<=>(const GroupKey&) const = default;
};
using Groups = std::map<GroupKey, Group>;

StacksByHandle stacks_by_handle(const Snapshot& snapshot) {
  StacksByHandle stacks;
  for (const Stack& stack : snapshot.stacks) {
    if (!stack.frames.empty()) {
      stacks.emplace(stack.handle, &stack);
    }
  }
  return stacks;
}

// From the objects, which know their caches and sizes.
Groups group_objects(const Snapshot& snapshot) {
  Groups groups;
  for (const LiveObject& object : snapshot.objects) {
    const double weight = object_weight(object.size, object.interval);
    Group& group = groups[{{}, object.stack, 0}];
    group.objects += weight;
    group.bytes += weight * static_cast<double>(object.size);
    group.estimated = group.estimated || object.interval > 1;
    ++group.samples;
    group.smallest = std::min(group.smallest, object.size);
    group.largest = std::max(group.largest, object.size);
    group.caches[object.cache] += weight;
  }
  return groups;
}

// From the sums that the depot keeps, if the objects were not read.
Groups group_stacks(const Snapshot& snapshot) {
  Groups groups;
  for (const Stack& stack : snapshot.stacks) {
    if (stack.live_objects == 0) {
      continue;
    }
    Group& group = groups[{{}, stack.handle, 0}];
    group.estimated = snapshot.target.track_mode != abi::TrackMode::kAll;
    group.samples = stack.live_objects;
    group.objects =
        group.estimated ? stack.estimated_live_objects : static_cast<double>(stack.live_objects);
    group.bytes =
        static_cast<double>(group.estimated ? stack.estimated_live_bytes : stack.live_bytes);
  }
  return groups;
}

// From a check, which knows every object.
Groups group_checked(const LeakCheck& check) {
  Groups groups;
  for (const LeakGroup& found : check.groups) {
    Group group;
    group.objects = static_cast<double>(found.objects);
    group.bytes = static_cast<double>(found.bytes);
    group.samples = found.stack != 0 ? found.objects : 0;
    group.smallest = found.smallest;
    group.largest = found.largest;
    group.caches[found.cache] = group.objects;
    groups[{found.leak_class, found.stack, found.stack == 0 ? found.cache : 0}].add(group);
  }
  return groups;
}

void add_checked_totals(const LeakCheck& check, LeakReport& report) {
  CheckedTotals& totals = report.checked.emplace();
  for (const LeakGroup& group : check.groups) {
    const bool reachable = group.leak_class == LeakClass::kReachable;
    ObjectTotals& sum = reachable                                  ? totals.reachable
                        : group.leak_class == LeakClass::kIndirect ? totals.indirect
                                                                   : totals.definite;
    sum.objects = Cache::saturating_sum(sum.objects, group.objects);
    sum.bytes = Cache::saturating_sum(sum.bytes, group.bytes);
    totals.lost_without_stack += !reachable && group.stack == 0 ? group.objects : 0;
  }
  totals.pause = check.pause;
  totals.in_place_reason = check.in_place_reason;
  totals.damaged = check.damaged;
  report.reachability = "checked";
  report.estimated = false;
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

void add_caches(const Snapshot& snapshot, LeakReport& report) {
  for (const Cache& cache : snapshot.caches) {
    if (!cache.ever_used() || cache.kind == abi::CacheKind::kOwn) {
      continue;  // kOwn: what the shim's start allocated is not the program's
    }
    const CacheRemainder row{cache, {}};
    const ObjectTotals left = row.remaining();
    report.unchecked.objects = Cache::saturating_sum(report.unchecked.objects, left.objects);
    report.unchecked.bytes = Cache::saturating_sum(report.unchecked.bytes, left.bytes);
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

LeakEntry entry_of(const Group& group, const StackFrames::Ids& ids, const StackFrames& frames,
                   const CacheNames& names) {
  LeakEntry entry;
  entry.objects = rounded(group.objects);
  entry.bytes = rounded(group.bytes);
  entry.estimated = group.estimated;
  entry.samples = group.samples;
  entry.smallest = group.smallest == UINT64_MAX ? 0 : group.smallest;
  entry.largest = group.largest;
  entry.caches = cache_names(group.caches, names);
  for (const uint32_t id : ids) {
    entry.stack.push_back(frames.frame(id));
  }
  return entry;
}

// Definite before indirect before reachable; "unknown" stands alone.
int class_order(const LeakEntry& entry) {
  return entry.leak_class == "definite" ? 0 : entry.leak_class == "indirect" ? 1 : 2;
}

bool precedes(const LeakEntry& a, const LeakEntry& b) {
  if (class_order(a) != class_order(b)) {
    return class_order(a) < class_order(b);
  }
  if (std::tie(a.bytes, a.objects) != std::tie(b.bytes, b.objects)) {
    return std::tie(a.bytes, a.objects) > std::tie(b.bytes, b.objects);
  }
  return std::lexicographical_compare(
      a.stack.begin(), a.stack.end(), b.stack.begin(), b.stack.end(),
      [](const SymbolFrame& x, const SymbolFrame& y) {
        return std::tie(x.function, x.file, x.line, x.module, x.offset) <
               std::tie(y.function, y.file, y.line, y.module, y.offset);
      });
}

// Stacks that look the same become one entry.
void add_entries(const Snapshot& snapshot, const Groups& groups, const StacksByHandle& stacks,
                 Symbolizer& symbolizer, const ReportOptions& options, LeakReport& report) {
  StackFrames frames(symbolizer);
  std::map<std::pair<GroupKey, StackFrames::Ids>, Group> merged;
  size_t done = 0;
  for (const auto& [key, group] : groups) {
    const auto stack = stacks.find(key.stack);
    const bool known = stack != stacks.end();
    merged[{{key.leak_class, 0, known ? 0 : key.cache},
            known ? frames.ids_of(*stack->second) : StackFrames::Ids()}]
        .add(group);
    if (options.progress && ++done % kProgressStep == 0) {
      options.progress(done, groups.size());
    }
  }
  const CacheNames names = cache_names_of(snapshot);
  for (const auto& [key, group] : merged) {
    const StackFrames::Ids& ids = key.second;
    const ObjectTotals sums = {rounded(group.objects), rounded(group.bytes)};
    if (!ids.empty()) {
      report.explained.objects = Cache::saturating_sum(report.explained.objects, sums.objects);
      report.explained.bytes = Cache::saturating_sum(report.explained.bytes, sums.bytes);
    }
    report.samples += group.samples;
    report.estimated = report.estimated || group.estimated;
    if (sums.bytes < options.min_bytes) {
      ++report.entries_below_min;
      report.below_min.objects = Cache::saturating_sum(report.below_min.objects, sums.objects);
      report.below_min.bytes = Cache::saturating_sum(report.below_min.bytes, sums.bytes);
    } else {
      report.leaks.push_back(entry_of(group, ids, frames, names));
      if (key.first.leak_class) {
        report.leaks.back().leak_class = to_string(*key.first.leak_class);
      }
    }
  }
  std::sort(report.leaks.begin(), report.leaks.end(), precedes);
}

bool belongs_to_system(std::string_view path) {
  return path.empty() || path.front() != '/' || path.starts_with("/lib") ||
         path.starts_with("/usr/lib") || is_allocator(path);
}

void find_modules_without_lines(LeakReport& report) {
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
  std::set_difference(without.begin(), without.end(), with.begin(), with.end(),
                      std::back_inserter(report.modules_without_lines));
}

}  // namespace

LeakReport build_report(const Snapshot& snapshot, Symbolizer& symbolizer,
                        const ReportOptions& options, const LeakCheck* check) {
  LeakReport report;
  report.target = snapshot.target;
  report.reachability = reachability_of(snapshot.target.state);
  report.estimated = snapshot.target.track_mode == abi::TrackMode::kSampled;
  report.dropped_objects = snapshot.counters.dropped_objects;
  report.dropped_stacks = snapshot.counters.dropped_stacks;
  report.dropped_modules = snapshot.counters.dropped_modules;
  add_caches(snapshot, report);
  const StacksByHandle stacks = stacks_by_handle(snapshot);
  explain_caches(snapshot, stacks, report);
  if (check != nullptr && check->refused.empty()) {
    add_checked_totals(*check, report);
  } else if (check != nullptr) {
    report.reachability = "not checked: " + check->refused;
  }
  const Groups groups = report.checked             ? group_checked(*check)
                        : snapshot.objects.empty() ? group_stacks(snapshot)
                                                   : group_objects(snapshot);
  symbolizer.begin_process(snapshot.modules, process_context(snapshot.target));
  add_entries(snapshot, groups, stacks, symbolizer, options, report);
  find_modules_without_lines(report);
  std::stable_sort(report.caches.begin(), report.caches.end(),
                   [](const CacheRemainder& a, const CacheRemainder& b) {
                     const ObjectTotals x = a.remaining();
                     const ObjectTotals y = b.remaining();
                     return std::tie(x.bytes, x.objects) > std::tie(y.bytes, y.objects);
                   });
  return report;
}

bool has_leaks(const LeakReport& report) {
  if (report.checked) {
    return std::any_of(report.leaks.begin(), report.leaks.end(),
                       [](const LeakEntry& entry) { return entry.leak_class != "reachable"; });
  }
  return report.unchecked.objects != 0 && (!report.leaks.empty() || report.entries_below_min == 0);
}

}  // namespace slabscope
