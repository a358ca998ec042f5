// SPDX-License-Identifier: MIT

#include "exporter/analysis/heap_profile.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "exporter/analysis/stack_frames.h"
#include "exporter/base/saturating.h"
#include "exporter/base/text.h"
#include "exporter/source/object_summary.h"

namespace slabscope {
namespace {

// One entry of the profile in the making.
struct Entry {
  HeapGroup live;
  double total_objects = 0;
  double total_bytes = 0;
};

// Ages count from here: now, the process's end, or the last thing it is known to have done.
uint64_t age_reference(const HeapReading& reading) {
  const TargetInfo& target = reading.snapshot.target;
  if (reading.moment_ns != 0) {
    return reading.moment_ns;
  }
  if (target.state == TargetState::kRunning) {
    return target.read_monotonic_ns;
  }
  return target.end_monotonic_ns != 0 ? target.end_monotonic_ns : reading.groups.newest_ns();
}

double realtime_of(const TargetInfo& target, uint64_t monotonic_ns) {
  const uint64_t since = Cache::clamped_difference(monotonic_ns, target.start_monotonic_ns);
  const uint64_t us = saturating_sum(target.start_realtime_ns, since) / 1000;
  return static_cast<double>(us) / 1e6;
}

// What the depot knows beyond the live objects.
void add_totals(const Stack& stack, Entry& entry) {
  const double freed = stack.estimated_total_objects - stack.estimated_live_objects;
  const uint64_t freed_bytes =
      Cache::clamped_difference(stack.estimated_total_bytes, stack.estimated_live_bytes);
  entry.total_objects += entry.live.objects.value + std::max(freed, 0.0);
  entry.total_bytes += entry.live.bytes.value + static_cast<double>(freed_bytes);
}

std::optional<double> age(uint64_t reference_ns, uint64_t when_ns) {
  if (when_ns == 0 || when_ns == UINT64_MAX || reference_ns == 0) {
    return std::nullopt;
  }
  return static_cast<double>(Cache::clamped_difference(reference_ns, when_ns)) / 1e9;
}

HeapStack stack_of(const Entry& entry, const StackFrames::Ids& ids, uint64_t reference_ns,
                   const CacheNames& names) {
  HeapStack stack;
  const HeapGroup& live = entry.live;
  stack.objects = live.objects;
  stack.bytes = live.bytes;
  stack.shared_objects = live.shared_objects;
  stack.shared_bytes = live.shared_bytes;
  stack.total_objects = entry.total_objects;
  stack.total_bytes = entry.total_bytes;
  stack.estimated = live.estimated;
  stack.samples = live.samples;
  stack.smallest = live.smallest == UINT64_MAX ? 0 : live.smallest;
  stack.largest = live.largest;
  stack.oldest_seconds = age(reference_ns, live.oldest_ns);
  stack.newest_seconds = age(reference_ns, live.newest_ns);
  stack.caches = cache_names(live.caches, names);
  stack.stack = ids;
  return stack;
}

void sort_stacks(HeapProfile& profile) {
  const auto order = [&](uint32_t a, uint32_t b) {
    const SymbolFrame& x = profile.frames[a];
    const SymbolFrame& y = profile.frames[b];
    return std::tie(x.function, x.file, x.line, x.module, x.offset) <
           std::tie(y.function, y.file, y.line, y.module, y.offset);
  };
  std::stable_sort(profile.stacks.begin(), profile.stacks.end(),
                   [&](const HeapStack& a, const HeapStack& b) {
                     if (a.bytes.value != b.bytes.value) {
                       return a.bytes.value > b.bytes.value;
                     }
                     if (a.objects.value != b.objects.value) {
                       return a.objects.value > b.objects.value;
                     }
                     return std::lexicographical_compare(a.stack.begin(), a.stack.end(),
                                                         b.stack.begin(), b.stack.end(), order);
                   });
}

void count_exactly(const Snapshot& snapshot, HeapProfile& profile) {
  for (const Cache& cache : snapshot.caches) {
    if (cache.kind !=
        abi::CacheKind::kOwn) {  // what the shim's start allocated is not the program's
      profile.exact_objects = saturating_sum(profile.exact_objects, cache.active_objects());
      profile.exact_bytes = saturating_sum(profile.exact_bytes, cache.active_bytes());
    }
  }
}

// Stacks that look the same become one entry.
std::map<StackFrames::Ids, Entry> merge(const HeapReading& reading, StackFrames& frames,
                                        const HeapOptions& options) {
  std::map<StackFrames::Ids, Entry> merged;
  const auto& groups = reading.groups.groups();
  std::map<uint32_t, const Stack*> stacks;
  for (const Stack& stack : reading.snapshot.stacks) {
    if (!stack.frames.empty()) {
      stacks.emplace(stack.handle, &stack);
    }
  }
  size_t done = 0;
  for (const auto& [handle, stack] : stacks) {
    const auto group = groups.find(handle);
    if (group == groups.end() &&
        (options.freed == Freed::kLeaveOut || stack->estimated_total_objects == 0)) {
      continue;
    }
    Entry entry;
    if (group != groups.end()) {
      entry.live = group->second;
    }
    add_totals(*stack, entry);
    Entry& sum = merged[frames.ids_of(*stack)];
    sum.live.add(entry.live);
    sum.total_objects += entry.total_objects;
    sum.total_bytes += entry.total_bytes;
    if (options.progress) {
      options.progress(++done, stacks.size());
    }
  }
  for (const auto& [handle, group] : groups) {
    if (!stacks.contains(handle)) {
      Entry& sum = merged[{}];
      sum.live.add(group);
      sum.total_objects += group.objects.value;
      sum.total_bytes += group.bytes.value;
    }
  }
  return merged;
}

}  // namespace

HeapProfile build_heap_profile(HeapReading reading, Symbolizer& symbolizer,
                               const HeapOptions& options) {
  HeapProfile profile;
  const Snapshot& snapshot = reading.snapshot;
  profile.target = snapshot.target;
  profile.dropped_objects = snapshot.counters.dropped_objects;
  profile.dropped_stacks = snapshot.counters.dropped_stacks;
  profile.estimated = snapshot.target.track_mode == abi::TrackMode::kSampled;
  count_exactly(snapshot, profile);
  symbolizer.begin_process(snapshot.modules, process_context(snapshot.target));
  StackFrames frames(symbolizer);
  const CacheNames names = cache_names_of(snapshot);
  const uint64_t reference_ns = age_reference(reading);
  profile.time_seconds = realtime_of(snapshot.target, reference_ns);
  for (const auto& [ids, entry] : merge(reading, frames, options)) {
    profile.stacks.push_back(stack_of(entry, ids, reference_ns, names));
    profile.samples += entry.live.samples;
    profile.estimated = profile.estimated || entry.live.estimated;
  }
  profile.frames = frames.take_frames();
  profile.modules = std::move(reading.snapshot.modules);
  sort_stacks(profile);
  return profile;
}

HeapGroup sum_of(const HeapProfile& profile) {
  HeapGroup sum;
  for (const HeapStack& stack : profile.stacks) {
    sum.objects.add(stack.objects);
    sum.bytes.add(stack.bytes);
    sum.samples += stack.samples;
    sum.estimated = sum.estimated || stack.estimated;
  }
  return sum;
}

}  // namespace slabscope
