// SPDX-License-Identifier: MIT
//
// prometheus: snapshots and totals -> metric families.
//
//   live processes ─┐  gauges: summed over the live processes of an app
//   Ledger totals ──┴► Subject (an app, or a process) ─► FamilySet ─► text
//                      counters: of every process of the app, ended ones too
//
// Identities, exact for a process at rest (prometheus_test):
//   mapped{slab} + mapped{large} + mapped{free}
//                          = active + free{thread} + free{partial} + free{tail} + free{runs}
//   cache: objects = active + objects on threads' lists + free objects in slabs
//   cache: slabs{full} + slabs{partial} + slabs{empty} = slabs
// `tail` is what the rounding to size classes does not show: the rests of slabs behind their last
// object, and the rests of large blocks behind their last byte.
//
// Names and labels: docs/abi.md for what the counters mean.

#pragma once

#include <map>
#include <memory>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "exporter/output/family_set.h"
#include "exporter/source/object_summary.h"
#include "exporter/source/snapshot.h"
#include "exporter/source/totals.h"

namespace slabscope {

enum class CacheDetail { kOff, kBasic, kFull };
enum class Grouping { kByApp, kByProcess };

struct MetricOptions {
  CacheDetail cache_detail = CacheDetail::kFull;
  std::optional<std::regex> cache_include;  // whole names
  std::optional<std::regex> cache_exclude;
  Grouping grouping = Grouping::kByApp;
  uint64_t max_cache_series = 20000;
};

struct ProcessView {
  std::shared_ptr<const Snapshot> snapshot;
  std::string app;
  std::optional<uint64_t> resident_bytes;
  std::optional<ObjectSummary> objects;
};

// What one set of labels stands for.
struct Subject {
  Labels labels;
  std::vector<const ProcessView*> live;
  Totals totals;
};

// `all` holds every readable process, living or dead; `totals` those of Ledger::app_totals().
std::vector<Subject> make_subjects(const std::vector<ProcessView>& all,
                                   const std::map<std::string, Totals>& totals, Grouping grouping);

void add_process_metrics(FamilySet& families, const std::vector<Subject>& subjects,
                         Grouping grouping);

// Returns the number of series left out to stay within max_cache_series.
uint64_t add_cache_metrics(FamilySet& families, const std::vector<Subject>& subjects,
                           const MetricOptions& options);

// Where the free memory of a process is; see the identities above.
struct FreeBytes {
  uint64_t thread = 0;
  uint64_t partial = 0;
  uint64_t tail = 0;
  uint64_t runs = 0;
};
uint64_t active_bytes(const Snapshot& snapshot);
FreeBytes free_bytes(const Snapshot& snapshot);
uint64_t live_threads(const Snapshot& snapshot);

}  // namespace slabscope
