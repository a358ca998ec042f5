// SPDX-License-Identifier: MIT
//
// Report: what a process still holds, by stack and by cache, as text and as JSON.
//
//   Snapshot ─► build_report() ─► LeakReport ─► report_text()   (slabscope run, slabscope report)
//                   │                       └─► report_json()   (--json; schema in docs/reports.md)
//                   ▼
//              Symbolizer   stacks whose *symbolized* frames are equal become one entry
//
// Invariants
//   1. The per-cache table is exact in every mode: it is allocs - frees, summed over threads.
//   2. Entries are exact only with tracking "all"; else each says `estimated` and its sample count.
//   3. Frames of the allocator itself never head a stack; a stack is never left empty by trimming.
//   4. Entries are sorted by bytes, then objects, then stack: equal snapshots give equal reports.
//                                                                     (report_test, golden files)
//   5. Every string printed is free of control characters and valid UTF-8, whatever the file said.
// Called from: exporter/commands. Reads no shared memory: a Snapshot is plain values.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "exporter/analysis/leak_check.h"
#include "exporter/analysis/suppressions.h"
#include "exporter/analysis/symbolize.h"
#include "exporter/base/child.h"
#include "exporter/base/saturating.h"
#include "exporter/output/peak_text.h"
#include "exporter/source/event_reader.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

struct ReportOptions {
  uint64_t min_bytes = 0;   // entries (stacks) below this are counted, not listed
  size_t top = 20;          // entries report_text() prints; 0: all
  bool color = false;       // ANSI colours, for a terminal
  bool all_caches = false;  // report_text(): also the caches with nothing left
  bool reachable = false;   // report_text(): after a check, also what is not lost
  size_t width = 100;       // of the terminal; names are shortened to it, paths never
  std::string source_root;  // directory that report_text() leaves out of paths below it
  Suppressions suppressions;
  std::string target_hint;  // what to type as TARGET in the hints: a pid or a file
  std::function<void(size_t done, size_t total)> progress;  // now and then while symbolizing
};

struct ObjectTotals {
  uint64_t objects = 0;
  uint64_t bytes = 0;

  bool operator==(const ObjectTotals&) const = default;
  void add(const ObjectTotals& other) {
    objects = saturating_sum(objects, other.objects);
    bytes = saturating_sum(bytes, other.bytes);
  }
};

// One cache that was ever used. What remains is exact; `explained` is what stacks account for.
struct CacheRemainder {
  Cache cache;
  ObjectTotals explained;  // requested bytes; estimated unless tracking was "all"

  ObjectTotals remaining() const { return {cache.active_objects(), cache.active_bytes()}; }
};

// A definite leak, and how much of an indirect one hangs on it.
struct LeakOwner {
  std::optional<size_t> leak;  // index into LeakReport::leaks; nothing: min_bytes left it out
  ObjectTotals held;
};

struct LeakEntry {
  std::string leak_class = "unknown";  // unless reachability is checked
  uint64_t objects = 0;
  uint64_t bytes = 0;  // as requested
  bool estimated = false;
  uint64_t samples = 0;   // tracked objects this entry was computed from
  uint64_t smallest = 0;  // requested sizes; 0 if unknown
  uint64_t largest = 0;
  std::vector<std::string> caches;  // most objects first
  std::vector<SymbolFrame> stack;   // innermost first; inline frames are frames of their own
  ObjectTotals holds;               // definite: what is indirectly lost with it
  std::vector<LeakOwner> owners;    // indirect: most bytes first
  ObjectTotals in_cycles;           // indirect: what no definite leak leads to
};

// What one pattern of the suppressions took out of the report.
struct SuppressedLeaks {
  std::string pattern;
  ObjectTotals taken;
};

// What a search of the process's memory for pointers found.
struct CheckedTotals {
  ObjectTotals definite;
  ObjectTotals indirect;
  ObjectTotals reachable;
  uint64_t lost_without_stack = 0;  // objects
  std::chrono::nanoseconds pause{};
  std::string
      in_place_reason;  // why the process stood still for all of the search; empty: it did not
  uint64_t damaged = 0;
};

struct LeakReport {
  TargetInfo target;
  std::optional<ChildEnd> end;           // what its parent saw, when that is us
  std::string reachability;              // "checked" or "not checked: REASON"
  std::optional<CheckedTotals> checked;  // if it is
  ObjectTotals unchecked;                // the sum over `caches`, exact
  ObjectTotals explained;                // what known stacks asked for, those below min_bytes too
  bool estimated = false;                // some entry is
  std::vector<CacheRemainder> caches;    // ever used; most remaining bytes first
  std::vector<LeakEntry> leaks;          // most bytes first
  ObjectTotals below_min;                // what min_bytes hid
  uint64_t entries_below_min = 0;
  std::vector<SuppressedLeaks> suppressed;  // patterns that took something, in the files' order
  uint64_t samples = 0;
  uint64_t dropped_objects = 0;
  uint64_t dropped_stacks = 0;
  uint64_t dropped_modules = 0;
  uint64_t last_sign_ns = 0;       // CLOCK_MONOTONIC: now, the end, or the last thing on record
  std::optional<ReportPeak> peak;  // the high-water mark; filled in by who wants it
  std::vector<HeapEvent> events;   // what is remembered, oldest first; filled in by who wants them
  // The program's own, as seen in listed stacks: those without lines, those that cannot be found.
  std::vector<std::string> modules_without_lines;
  std::vector<std::string> modules_missing;
};

// Groups what remains. The only function here that opens files: through `symbolizer`, which it
// gives the snapshot's modules. With a check the entries are its groups, exact in every mode.
[[nodiscard]] LeakReport build_report(const Snapshot& snapshot, Symbolizer& symbolizer,
                                      const ReportOptions& options,
                                      const LeakCheck* check = nullptr);

[[nodiscard]] ObjectTotals suppressed_total(const LeakReport& report);

// What --fail-on-leak asks: something is lost (or left, if nobody looked), and not only stacks that
// min_bytes left out.
[[nodiscard]] bool has_leaks(const LeakReport& report);

[[nodiscard]] std::string report_text(const LeakReport& report, const ReportOptions& options);
[[nodiscard]] std::string report_json(const LeakReport& report);

}  // namespace slabscope
