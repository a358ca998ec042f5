// SPDX-License-Identifier: MIT

#include "exporter/output/prometheus.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

#include "exporter/base/saturating.h"
#include "exporter/source/group_totals.h"

namespace slabscope {
namespace {

constexpr FamilyInfo kTargetInfo{
    "slabscope_target_info", MetricKind::kGauge,
    "One process behind an app; only with --per-process. The value is always 1."};
constexpr FamilyInfo kProcesses{"slabscope_processes", MetricKind::kGauge,
                                "Processes of the app that publish statistics now."};
constexpr FamilyInfo kStartTime{
    "slabscope_process_start_time_seconds", MetricKind::kGauge,
    "Start time of the oldest running process of the app since the unix epoch."};
constexpr FamilyInfo kRequested{
    "slabscope_requested_bytes", MetricKind::kGauge,
    "Bytes the application asked for and has not freed: exact with SLABSCOPE_TRACK=all, else an "
    "estimate from samples; as last measured."};
constexpr FamilyInfo kActive{
    "slabscope_active_bytes", MetricKind::kGauge,
    "Bytes in objects handed to the application, rounded up to their size class."};
constexpr FamilyInfo kResident{"slabscope_resident_bytes", MetricKind::kGauge,
                               "Resident part of the heap's address space, as last measured."};
constexpr FamilyInfo kFree{
    "slabscope_free_bytes", MetricKind::kGauge,
    "Free memory the allocator keeps: on threads' lists, in partial slabs, in tails that no object "
    "fits in, in runs of pages."};
constexpr FamilyInfo kLargeAllocations{"slabscope_large_allocations_total", MetricKind::kCounter,
                                       "Allocations that exceed the largest size class."};
constexpr FamilyInfo kLargeFrees{"slabscope_large_frees_total", MetricKind::kCounter,
                                 "Frees of such allocations."};
constexpr FamilyInfo kGroupObjects{
    "slabscope_group_active_objects", MetricKind::kGauge,
    "Objects in use by group of caches; the empty name: of no group. Of processes with groups."};
constexpr FamilyInfo kGroupBytes{
    "slabscope_group_active_bytes", MetricKind::kGauge,
    "Bytes in objects in use by group of caches; the empty name: of no group. Of processes with "
    "groups."};
constexpr FamilyInfo kThreads{"slabscope_threads", MetricKind::kGauge,
                              "Threads that own a local cache."};
constexpr FamilyInfo kSampleInterval{
    "slabscope_sample_interval_bytes", MetricKind::kGauge,
    "Mean number of allocated bytes between two samples; 1 tracks every object, 0 none. The "
    "largest of the app's processes."};
constexpr FamilyInfo kSampledLive{
    "slabscope_sampled_live_bytes", MetricKind::kGauge,
    "Estimated live bytes by age of the tracked object, as last measured."};
constexpr FamilyInfo kEvents{
    "slabscope_events_total", MetricKind::kCounter,
    "What happened to caches and to the heap, by kind of event (slabscope events tells of each)."};
constexpr FamilyInfo kRemainingObjects{
    "slabscope_remaining_objects_total", MetricKind::kCounter,
    "Objects that remained when processes of the app shut their caches down at exit."};
constexpr FamilyInfo kRemainingBytes{
    "slabscope_remaining_bytes_total", MetricKind::kCounter,
    "Bytes that remained when processes of the app shut their caches down at exit."};

struct CounterRow {
  std::string_view name;
  MetricKind kind;
  std::string_view help;
  uint64_t abi::ProcessCounters::*field;
};

constexpr MetricKind kind_of(std::string_view kind) {
  return kind == "counter" ? MetricKind::kCounter : MetricKind::kGauge;
}

constexpr CounterRow kCounterRows[] = {
#define COUNTER(name, kind, unit, level, help) \
  {#name, kind_of(#kind), help, &abi::ProcessCounters::name},
#include "diag/abi/counters.def"
#undef COUNTER
};

// Rows that are one family with a label; the others are families under their own name.
struct Labelled {
  std::string_view row;
  std::string_view family;
  const char* label;
  const char* value;
  std::string_view help;
};

constexpr std::string_view kMappedHelp =
    "Address space taken from the kernel, by kind: slab, large, free, metadata, stacks.";
constexpr std::string_view kFailuresHelp = "Allocations that returned NULL.";
constexpr std::string_view kErrorsHelp = "Misuse of the heap seen by the allocator.";
constexpr std::string_view kDroppedHelp = "Records lost because a fixed table was full.";

constexpr Labelled kLabelled[] = {
    {"mapped_slab_bytes", "slabscope_mapped_bytes", "kind", "slab", kMappedHelp},
    {"mapped_large_bytes", "slabscope_mapped_bytes", "kind", "large", kMappedHelp},
    {"mapped_free_bytes", "slabscope_mapped_bytes", "kind", "free", kMappedHelp},
    {"mapped_metadata_bytes", "slabscope_mapped_bytes", "kind", "metadata", kMappedHelp},
    {"mapped_stacks_bytes", "slabscope_mapped_bytes", "kind", "stacks", kMappedHelp},
    {"failures_no_memory", "slabscope_allocation_failures_total", "reason", "no_memory",
     kFailuresHelp},
    {"failures_too_large", "slabscope_allocation_failures_total", "reason", "too_large",
     kFailuresHelp},
    {"errors_double_free", "slabscope_errors_total", "kind", "double_free", kErrorsHelp},
    {"errors_invalid_free", "slabscope_errors_total", "kind", "invalid_free", kErrorsHelp},
    {"dropped_objects", "slabscope_sample_records_dropped_total", "table", "objects", kDroppedHelp},
    {"dropped_stacks", "slabscope_sample_records_dropped_total", "table", "stacks", kDroppedHelp},
    {"dropped_modules", "slabscope_sample_records_dropped_total", "table", "modules", kDroppedHelp},
    {"dropped_events", "slabscope_sample_records_dropped_total", "table", "events", kDroppedHelp},
    {"dropped_threads", "slabscope_sample_records_dropped_total", "table", "threads", kDroppedHelp},
};

// Gauges that only a process that ended has are the counters kRemaining* here; events are told by
// kind.
bool is_family(const CounterRow& row) {
  return !row.name.starts_with("remaining_") && row.name != "events";
}

// Rows of kEvents; the rest of their names is the kind's.
constexpr std::string_view kEventRow = "events_";

void add_row(FamilySet& families, const Subject& subject, const CounterRow& row) {
  double value = 0;
  if (row.kind == MetricKind::kCounter) {
    value = static_cast<double>(subject.totals.counters.*row.field);
  } else {
    for (const ProcessView* view : subject.live) {
      value += static_cast<double>(view->snapshot->counters.*row.field);
    }
  }
  if (row.name.starts_with(kEventRow)) {
    families.add(kEvents, with(subject.labels, "event", row.name.substr(kEventRow.size())), value);
    return;
  }
  const auto* labelled = std::find_if(std::begin(kLabelled), std::end(kLabelled),
                                      [&](const Labelled& entry) { return entry.row == row.name; });
  if (labelled != std::end(kLabelled)) {
    families.add({labelled->family, row.kind, labelled->help},
                 with(subject.labels, labelled->label, labelled->value), value);
    return;
  }
  std::string name = "slabscope_" + std::string(row.name);
  if (row.kind == MetricKind::kCounter) {
    name += "_total";
  }
  families.add({name, row.kind, row.help}, subject.labels, value);
}

void add_sizes(FamilySet& families, const Subject& subject) {
  double active = 0;
  FreeBytes free;
  uint64_t threads = 0;
  for (const ProcessView* view : subject.live) {
    const Snapshot& snapshot = *view->snapshot;
    active += static_cast<double>(active_bytes(snapshot));
    const FreeBytes part = free_bytes(snapshot);
    free.thread += part.thread;
    free.partial += part.partial;
    free.tail += part.tail;
    free.runs += part.runs;
    threads += live_threads(snapshot);
  }
  families.add(kActive, subject.labels, active);
  families.add(kFree, with(subject.labels, "where", "thread"), free.thread);
  families.add(kFree, with(subject.labels, "where", "partial"), free.partial);
  families.add(kFree, with(subject.labels, "where", "tail"), free.tail);
  families.add(kFree, with(subject.labels, "where", "runs"), free.runs);
  families.add(kThreads, subject.labels, threads);
}

// What is measured now and then, and not for every process.
void add_measured(FamilySet& families, const Subject& subject) {
  std::optional<double> resident;
  std::optional<ObjectSummary> objects;
  for (const ProcessView* view : subject.live) {
    if (view->resident_bytes) {
      resident = resident.value_or(0) + static_cast<double>(*view->resident_bytes);
    }
    if (view->objects && view->snapshot->target.track_mode != abi::TrackMode::kOff) {
      objects = objects.value_or(ObjectSummary{});
      objects->requested_bytes += view->objects->requested_bytes;
      for (size_t i = 0; i < kAgeBuckets; ++i) {
        objects->bytes_by_age[i] += view->objects->bytes_by_age[i];
      }
    }
  }
  if (resident) {
    families.add(kResident, with(subject.labels, "kind", "heap"), *resident);
  }
  if (objects) {
    families.add(kRequested, subject.labels, objects->requested_bytes);
    for (size_t i = 0; i < kAgeBuckets; ++i) {
      families.add(kSampledLive, with(subject.labels, "age", kAgeNames[i]),
                   objects->bytes_by_age[i]);
    }
  }
}

// Of the processes that have groups; of equal names the sum.
void add_groups(FamilySet& families, const Subject& subject) {
  std::map<std::string, GroupTotals> groups;
  for (const ProcessView* view : subject.live) {
    if (view->snapshot->groups.empty()) {
      continue;
    }
    for (const GroupTotals& totals : group_totals(*view->snapshot)) {
      GroupTotals& sum = groups[totals.name];
      sum.active_objects += totals.active_objects;
      sum.active_bytes += totals.active_bytes;
    }
  }
  for (const auto& [name, sum] : groups) {
    const Labels labels = with(subject.labels, "group", name);
    families.add(kGroupObjects, labels, sum.active_objects);
    families.add(kGroupBytes, labels, sum.active_bytes);
  }
}

void add_identity(FamilySet& families, const Subject& subject, Grouping grouping) {
  families.add(kProcesses, subject.labels, uint64_t{subject.live.size()});
  if (subject.live.empty()) {
    return;
  }
  uint64_t oldest_ns = UINT64_MAX;
  uint32_t interval = 0;
  for (const ProcessView* view : subject.live) {
    const TargetInfo& target = view->snapshot->target;
    oldest_ns = std::min(oldest_ns, target.start_realtime_ns);
    interval = std::max(interval, target.sample_interval);
    if (grouping == Grouping::kByProcess) {
      Labels labels = with(subject.labels, "exe", target.exe);
      labels = with(labels, "shim_version", target.shim_version);
      labels = with(labels, "start_time", std::to_string(target.start_realtime_ns / 1'000'000'000));
      families.add(kTargetInfo, labels, uint64_t{1});
    }
  }
  families.add(kStartTime, subject.labels, static_cast<double>(oldest_ns) / 1e9);
  families.add(kSampleInterval, subject.labels, uint64_t{interval});
}

std::string instance_id(const TargetInfo& target) {
  return std::to_string(target.file.device) + "-" + std::to_string(target.file.inode);
}

}  // namespace

uint64_t active_bytes(const Snapshot& snapshot) {
  uint64_t sum = 0;
  for (const Cache& cache : snapshot.caches) {
    sum = saturating_sum(sum, cache.active_bytes());
  }
  return sum;
}

FreeBytes free_bytes(const Snapshot& snapshot) {
  FreeBytes free;
  for (const Cache& cache : snapshot.caches) {
    free.thread += saturating_product(cache.thread_free_objects(), cache.object_size);
    free.partial += saturating_product(cache.slab_free_objects(), cache.object_size);
  }
  free.runs = snapshot.counters.mapped_free_bytes;
  const uint64_t in_use =
      snapshot.counters.mapped_slab_bytes + snapshot.counters.mapped_large_bytes;
  free.tail =
      Cache::clamped_difference(in_use, active_bytes(snapshot) + free.thread + free.partial);
  return free;
}

uint64_t live_threads(const Snapshot& snapshot) {
  // Slot 0 belongs to the process, not to a thread.
  return static_cast<uint64_t>(
      std::count_if(snapshot.threads.begin(), snapshot.threads.end(), [](const Thread& thread) {
        return thread.slot != 0 && thread.state == abi::ThreadState::kLive;
      }));
}

std::vector<Subject> make_subjects(const std::vector<ProcessView>& all,
                                   const std::map<std::string, Totals>& totals, Grouping grouping) {
  std::vector<Subject> subjects;
  if (grouping == Grouping::kByProcess) {
    for (const ProcessView& view : all) {
      if (view.snapshot->target.state == TargetState::kRunning) {
        const TargetInfo& target = view.snapshot->target;
        subjects.push_back({{label("app", view.app), label("instance_id", instance_id(target)),
                             label("pid", std::to_string(target.pid))},
                            {&view},
                            totals_of(*view.snapshot)});
      }
    }
    return subjects;
  }
  std::map<std::string, std::vector<const ProcessView*>> live;
  for (const ProcessView& view : all) {
    if (view.snapshot->target.state == TargetState::kRunning) {
      live[view.app].push_back(&view);
    }
  }
  for (const auto& [app, sum] : totals) {
    subjects.push_back({{label("app", app)}, live[app], sum});
  }
  return subjects;
}

void add_process_metrics(FamilySet& families, const std::vector<Subject>& subjects,
                         Grouping grouping) {
  for (const Subject& subject : subjects) {
    add_identity(families, subject, grouping);
    add_sizes(families, subject);
    add_groups(families, subject);
    add_measured(families, subject);
    for (const CounterRow& row : kCounterRows) {
      if (is_family(row)) {
        add_row(families, subject, row);
      }
    }
    families.add(kLargeAllocations, subject.labels, subject.totals.large_allocations);
    families.add(kLargeFrees, subject.labels, subject.totals.large_frees);
    families.add(kRemainingObjects, subject.labels, subject.totals.remaining_objects);
    families.add(kRemainingBytes, subject.labels, subject.totals.remaining_bytes);
  }
}

}  // namespace slabscope
