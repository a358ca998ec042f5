// SPDX-License-Identifier: MIT

#include <CLI/App.hpp>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <memory>
#include <optional>
#include <ostream>
#include <system_error>
#include <thread>

#include "exporter/analysis/heap_growth.h"
#include "exporter/analysis/heap_peak.h"
#include "exporter/analysis/heap_profile.h"
#include "exporter/base/text.h"
#include "exporter/commands/commands.h"
#include "exporter/commands/stack_options.h"
#include "exporter/output/heap_json.h"
#include "exporter/output/heap_text.h"
#include "exporter/output/heap_tree.h"
#include "exporter/output/peak_text.h"
#include "exporter/output/pprof.h"
#include "exporter/output/report_options.h"
#include "exporter/source/process_info.h"
#include "exporter/source/targets.h"

namespace slabscope {
namespace {

constexpr const char* kHeapHelp = R"(
The heap of a process, living or dead, by the stacks that allocated it; or what grew in it.

With tracking "all" every number is exact. With "sampled" (the default of the library) they are
unbiased estimates, shown with their standard error and the number of samples behind them.

  text       biggest first: bytes, objects, caches, age, lines of source
  json       all of it (docs/heap.md); --diff reads it back later
  pprof      for go tool pprof, Parca, Pyroscope: alloc_objects, alloc_space, inuse_objects,
             inuse_space
  collapsed  a stack a line, for flamegraph.pl, speedscope, inferno
  html       one page with a flame graph, complete in itself

What grew is "still live, growing": in use for all one can tell. `slabscope leaks` tells what is
lost.

Examples:
  slabscope heap server                          what "server" holds now
  slabscope heap 4711 --seconds 60               what grew within a minute
  slabscope heap server --peak                   what it held when it held most
  slabscope heap 4711 --json -o monday.json      and on tuesday:
  slabscope heap 4711 --diff monday.json
  slabscope heap 4711 --format html -o heap.html
  slabscope heap 4711 --format pprof -o heap.pb.gz && go tool pprof -top heap.pb.gz

Exit codes: 0; 2 usage; 3 target (or OTHER) missing or unreadable; 125 FILE cannot be written.
)";

struct HeapCommand : StackOptions {
  std::string file;
  std::string other;
  uint64_t seconds = 0;
  bool peak = false;
};

Result<HeapReading> read_target(const std::string& text, HeapGroups groups = HeapGroups()) {
  const Result<TargetInfo> target = resolve_target(text);
  if (!target) {
    return target.failure();
  }
  Result<HeapReading> reading = read_heap(target->path, std::move(groups));
  if (reading) {
    reading->snapshot.target.state = target->state;
  }
  return reading;
}

// An earlier JSON is a file; a scope file has its own suffix; the rest are processes.
bool is_json_file(const std::string& text) {
  return !text.ends_with(kScopeSuffix) && (text.ends_with(".json") || text.find('/') != text.npos);
}

class HeapView {
 public:
  HeapView(const HeapCommand& command, CommandContext& context)
      : command_(command),
        context_(context),
        options_(command.report_options()),
        symbolizer_(command.symbolizer_options()) {
    if (!command.file.empty()) {
      options_.color = false;
      options_.width = ReportOptions().width;
    }
  }

  void show() {
    Result<HeapReading> reading = read_target(command_.target);
    if (!reading) {
      fail(context_, reading.failure());
      return;
    }
    write(formatted(profile_of(std::move(*reading))));
  }

  // As it was when the most was in use.
  void show_peak() {
    const Result<TargetInfo> target = resolve_target(command_.target);
    if (!target) {
      fail(context_, target.failure());
      return;
    }
    Result<std::optional<HeapPeak>> peak = read_heap_peak(target->path);
    if (!peak) {
      fail(context_, peak.failure());
      return;
    }
    if (!*peak) {
      fail(context_, kExitTarget,
           printable_utf8(command_.target) +
               " has no peak on record: it never had 1 MiB in use; leave out --peak");
      return;
    }
    HeapReading& reading = (*peak)->reading;
    reading.snapshot.target.state = target->state;
    const bool running = target->state == TargetState::kRunning;
    const uint64_t reference_ns = running ? target->read_monotonic_ns : target->end_monotonic_ns;
    const std::string when =
        peak_moment((*peak)->monotonic_ns, (*peak)->realtime_ns, reference_ns, running);
    const std::string text = formatted(profile_of(std::move(reading)));
    write(command_.format == "text" ? "At the peak, " + when + ":\n" + text : text);
  }

  void compare() {
    const Result<HeapProfile> before = other();
    if (!before) {
      fail(context_, before.failure());
      return;
    }
    Result<HeapReading> reading = read_target(command_.target);
    if (!reading) {
      fail(context_, reading.failure());
      return;
    }
    write_growth(*before, profile_of(std::move(*reading)));
  }

  // Both looks are at one process, so that samples which are in both cancel.
  void watch() {
    Result<HeapReading> first =
        read_target(command_.target, HeapGroups(HeapGroups::Remember::kYes));
    if (!first) {
      fail(context_, first.failure());
      return;
    }
    const TargetInfo target = first->snapshot.target;
    if (target.state != TargetState::kRunning) {
      fail(context_, kExitTarget,
           printable_utf8(command_.target) +
               " has ended, nothing in it will grow; leave out "
               "--seconds, or compare with --diff OTHER");
      return;
    }
    std::this_thread::sleep_for(std::chrono::seconds(command_.seconds));
    Result<HeapReading> second =
        read_heap(target.path, HeapGroups(HeapGroups::Remember::kNo, &first->groups));
    if (!second) {
      fail(context_, second.failure());
      return;
    }
    const HeapProfile before = profile_of(std::move(*first));
    write_growth(before, profile_of(std::move(*second)));
  }

 private:
  HeapProfile profile_of(HeapReading reading) {
    HeapOptions options;
    options.freed = command_.format == "pprof" ? Freed::kInclude : Freed::kLeaveOut;
    options.progress = options_.progress;
    HeapProfile profile = build_heap_profile(std::move(reading), symbolizer_, options);
    end_progress();
    return profile;
  }

  Result<HeapProfile> other() {
    if (is_json_file(command_.other)) {
      return read_heap_json(command_.other);
    }
    Result<HeapReading> reading = read_target(command_.other);
    if (!reading) {
      return reading.failure();
    }
    return profile_of(std::move(*reading));
  }

  std::string formatted(const HeapProfile& profile) const {
    if (command_.format == "json") {
      return heap_json(profile, command_.min_bytes);
    }
    if (command_.format == "pprof") {
      return heap_pprof(profile);
    }
    if (command_.format == "collapsed") {
      return heap_collapsed(profile);
    }
    return command_.format == "html" ? heap_page(profile) : heap_text(profile, options_);
  }

  void write_growth(const HeapProfile& before, const HeapProfile& now) {
    const HeapGrowth growth = heap_growth(before, now);
    write(command_.format == "json" ? growth_json(growth, command_.min_bytes)
                                    : growth_text(growth, options_));
  }

  void write(const std::string& text) {
    if (command_.file.empty()) {
      context_.out << text;
      return;
    }
    std::ofstream file(command_.file, std::ios::binary | std::ios::trunc);
    file << text << std::flush;
    if (!file) {
      fail(context_, kExitFailure,
           "cannot write " + printable_utf8(command_.file) + ": " +
               std::generic_category().message(errno));
    }
  }

  const HeapCommand& command_;
  CommandContext& context_;
  ReportOptions options_;
  Symbolizer symbolizer_;
};

void show_heap(HeapCommand command, CommandContext& context) {
  command.format = command.json ? "json" : command.format;
  const bool growth = !command.other.empty() || command.seconds != 0;
  if (growth && command.format != "text" && command.format != "json") {
    fail(context, kExitUsage,
         "growth is shown as text or json; for a graph of it, write two profiles and use "
         "go tool pprof -diff_base FIRST SECOND");
    return;
  }
  if (!command.other.empty() && command.seconds != 0) {
    fail(context, kExitUsage, "--diff and --seconds name the earlier look both; leave one out");
    return;
  }
  if (command.format == "pprof" && command.file.empty() && isatty(STDOUT_FILENO) != 0) {
    fail(context, kExitUsage, "a pprof profile is not for a terminal; add -o FILE");
    return;
  }
  if (growth && command.peak) {
    fail(context, kExitUsage, "--peak is one moment; leave out --diff and --seconds");
    return;
  }
  HeapView view(command, context);
  if (command.peak) {
    view.show_peak();
  } else if (!command.other.empty()) {
    view.compare();
  } else if (command.seconds != 0) {
    view.watch();
  } else {
    view.show();
  }
}

}  // namespace

void add_heap(CLI::App& app, CommandContext& context) {
  auto* command = app.add_subcommand("heap", "The live heap by stack, and what grew in it");
  command->footer(kHeapHelp);
  auto options = std::make_shared<HeapCommand>();
  add_target(*command, *options)->required();
  add_formats(*command, *options, "text, json, pprof, collapsed or html",
              {"text", "json", "pprof", "collapsed", "html"});
  command->add_option("-o,--output", options->file, "Write to FILE, not to standard output");
  command->add_option("--diff", options->other,
                      "What grew since OTHER: a FILE that --json wrote, or another target");
  command->add_option("--seconds", options->seconds, "What grows from now on, for N seconds")
      ->check(check_seconds);
  command->add_flag("--peak", options->peak, "As it was when the most memory was in use");
  add_selection(*command, *options, "Leave out stacks that hold fewer bytes");
  add_symbols(*command, *options);
  command->callback([options, &context] { show_heap(*options, context); });
}

}  // namespace slabscope
