// SPDX-License-Identifier: MIT
//
// Scraper: one look at all processes, for a scrape or a page.
//
//   scan:  find files ─► attach ─► Ledger ─► reap what is long dead
//                            └─► ProcessView (+ resident, requested: measured within a time budget)
//   metrics():  scan ─► collectors, each within its own try ─► FamilySet ─► text
//
// Invariants
//   1. A scrape costs the targets nothing and waits for none of them.
//   2. What needs more than reading counters (smaps, tables of tracked objects) has a time budget a
//      scan, and goes round: the longest unmeasured process comes first.
//   3. The file of a dead process is read once.
//   4. A collector that throws takes its own families away, and nothing else.   (scraper_test)
// Locks: mutex_, for the length of a call; scrapes queue up behind each other.

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "exporter/output/prometheus.h"
#include "exporter/source/targets.h"
#include "exporter/source/totals.h"

namespace slabscope {

enum class Reaping { kOff, kOn };

struct ScraperOptions {
  MetricOptions metrics;
  std::vector<std::string> directories;  // none: target_directories(), looked up at every scan
  Reaping reaping = Reaping::kOn;
  uint64_t reap_after_s = 600;
  uint64_t forget_after_s = 3600;
  std::chrono::milliseconds measure_budget{15};
  std::string revision;
};

class Scraper {
 public:
  explicit Scraper(ScraperOptions options);

  // The body of /metrics.
  std::string metrics();

  // Every readable process, newest first.
  std::vector<ProcessView> processes();

  // For tests: the clock that ages dead files, in seconds.
  void set_clock(std::function<uint64_t()> clock) { clock_ = std::move(clock); }
  // For tests: runs as one more collector named "extra".
  void set_extra_collector(std::function<void(FamilySet&)> extra) {
    const std::lock_guard lock(mutex_);
    extra_ = std::move(extra);
  }

 private:
  struct Measured {
    uint64_t at_scan = 0;
    std::optional<uint64_t> resident_bytes;
    std::optional<ObjectSummary> objects;
  };

  void scan();
  void read_target(const FoundTarget& found);
  void remember_dead();
  void reap_if_due(const Snapshot& snapshot);
  void measure();
  void add_exporter_metrics(FamilySet& families) const;
  // Runs one collector into a set of its own, which joins `all` if nothing was thrown.
  void collect(std::vector<prometheus::MetricFamily>& all, const std::string& name,
               const std::function<void(FamilySet&)>& collector);

  ScraperOptions options_;
  std::mutex mutex_;
  std::function<uint64_t()> clock_;
  std::function<void(FamilySet&)> extra_;
  Ledger ledger_;
  std::vector<ProcessView> views_;
  std::map<FileId, Measured> measured_;
  std::map<FileId, ProcessView> dead_;  // nobody maps their files any more: what was read stands
  std::map<std::string, uint64_t> states_;                     // of target files, at the last scan
  std::map<std::string, std::pair<double, bool>> collectors_;  // seconds, success
  double scan_seconds_ = 0;
  uint64_t scans_ = 0;
  uint64_t dropped_series_ = 0;
};

}  // namespace slabscope
