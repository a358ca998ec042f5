// SPDX-License-Identifier: MIT
//
// Totals: the counters of an app, which never fall although its processes come and go.
//
//   scope file ─each scan─► Ledger: last counts of the file ─gone─► sum of what ended ─┐
//                                     └────────────────────────────────────────────────┴► totals
//
// A file counts by its last known counts for as long as it can be seen, living or dead, and moves
// into its app's sum when it is gone, whoever removed it: this reaper, another exporter, or a
// starting process. So nothing counts twice, and nothing is lost.
//
// Invariants
//   1. The totals of an app are the sum over every file ever seen.             (totals_test)
//   2. A file keeps the app that it was first seen with.                       (totals_test)

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "exporter/source/snapshot.h"

namespace slabscope {

struct CacheTotals {
  uint64_t allocations = 0;
  uint64_t frees = 0;
  uint64_t slow_allocations = 0;
  uint64_t remote_frees = 0;
  uint64_t slabs_grown = 0;
  uint64_t slabs_released = 0;

  CacheTotals& operator+=(const CacheTotals& other);
};

struct Totals {
  abi::ProcessCounters counters{};  // only those that are counters; gauges stay 0
  uint64_t large_allocations = 0;
  uint64_t large_frees = 0;
  uint64_t remaining_objects = 0;  // of processes that ended
  uint64_t remaining_bytes = 0;
  std::map<std::string, CacheTotals> caches;  // by name; those that were ever used

  Totals& operator+=(const Totals& other);
};

// The counters of one process.
Totals totals_of(const Snapshot& snapshot);

class Ledger {
 public:
  // A scan: begin_scan(), saw() for every file that is there, end_scan().
  void begin_scan();
  void saw(const TargetInfo& target, std::string app, Totals totals);
  // The file is there, but was not read this time: its last counts stand, for good if its process
  // is dead.
  void saw_unread(FileId file);
  void end_scan(uint64_t now_s);

  // The app a file was first seen with.
  std::optional<std::string> app_of(const TargetInfo& target) const;
  // Seconds since this ledger first saw the process dead; nothing while it runs.
  std::optional<uint64_t> dead_for(const TargetInfo& target, uint64_t now_s) const;

  // Drops the sums of apps that had no file for `seconds`.
  void forget_after(uint64_t now_s, uint64_t seconds);

  std::map<std::string, Totals> app_totals() const;

 private:
  // Device and inode come again after a file is removed; the start time does not.
  using Key = std::pair<FileId, uint64_t>;
  struct File {
    std::string app;
    Totals last;
    bool seen = false;
    bool dead = false;
    bool folded = false;  // already part of the sum of what ended
    std::optional<uint64_t> dead_since_s;
  };
  struct Ended {
    Totals sum;
    uint64_t last_seen_s = 0;
  };
  void fold(File& file);
  static Key key_of(const TargetInfo& target) { return {target.file, target.start_realtime_ns}; }

  std::map<Key, File> files_;
  std::map<std::string, Ended> ended_;
};

}  // namespace slabscope
