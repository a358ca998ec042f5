// SPDX-License-Identifier: MIT

#include "exporter/output/report.h"

#include <CLI/App.hpp>
#include <unistd.h>

#include <memory>
#include <ostream>

#include "exporter/analysis/heap_peak.h"
#include "exporter/commands/commands.h"
#include "exporter/commands/stack_options.h"
#include "exporter/output/deaths.h"
#include "exporter/output/pprof.h"
#include "exporter/output/report_options.h"
#include "exporter/source/attach.h"
#include "exporter/source/event_reader.h"
#include "exporter/source/targets.h"

namespace slabscope {
namespace {

constexpr const char* kReportHelp = R"(
What is known of a process that runs, has exited, or was killed: how it ended, what its caches
counted, and which objects were still allocated, by the stack that allocated them.

The text has at most --top stacks; JSON (docs/reports.md) has all of them.

Examples:
  slabscope report server                      the newest process called "server"
  slabscope report 4711 --top 0                all stacks
  slabscope report 4711 --json | jq '.leaks[0].stack[].function'
  slabscope report 4711 --fail-on-leak --min-bytes 4096
  slabscope report 4711 --format pprof > heap.pb.gz
  slabscope report --all                       who died, how, and with how much

Exit codes: 0; 23 with --fail-on-leak if objects are left; 3 target missing or unreadable; 2 usage.
)";

constexpr size_t kPeakStacks = 5;

struct ReportCommandOptions : StackOptions {
  bool fail_on_leak = false;
  bool all_caches = false;
  bool all = false;
};

void list_deaths(const ReportCommandOptions& options, CommandContext& context) {
  if (!options.target.empty()) {
    fail(context, kExitUsage, "--all lists every process that ended; leave out TARGET");
    return;
  }
  const std::vector<Death> deaths = find_deaths();
  if (options.wants_json()) {
    context.out << deaths_json(deaths);
  } else {
    print_deaths(deaths, context.out,
                 isatty(STDOUT_FILENO) != 0 ? Color::kTerminal : Color::kNever);
  }
}

// The heap as it was left, for pprof.
void write_pprof(const TargetInfo& target, Symbolizer& symbolizer, const ReportOptions& options,
                 CommandContext& context) {
  if (isatty(STDOUT_FILENO) != 0) {
    fail(context, kExitUsage, "a pprof profile is not for a terminal; redirect it: > heap.pb.gz");
    return;
  }
  const Result<std::string> profile =
      pprof_of_file(target, symbolizer, {Freed::kInclude, options.progress});
  end_progress();
  if (!profile) {
    fail(context, profile.failure());
    return;
  }
  context.out << *profile;
}

void show_report(const ReportCommandOptions& options, CommandContext& context) {
  if (options.all) {
    list_deaths(options, context);
    return;
  }
  if (options.target.empty()) {
    fail(context, kExitUsage, "TARGET is required, or --all; see `slabscope report --help`");
    return;
  }
  const Result<TargetInfo> target = resolve_target(options.target);
  if (!target) {
    fail(context, target.failure());
    return;
  }
  Result<Snapshot> snapshot = attach(target->path, Include::kEverything);
  if (!snapshot) {
    fail(context, snapshot.failure());
    return;
  }
  snapshot->target.state = target->state;
  ReportOptions report_options = options.report_options();
  report_options.all_caches = options.all_caches;
  Symbolizer symbolizer(options.symbolizer_options());
  if (options.format == "pprof" && !options.json) {
    write_pprof(snapshot->target, symbolizer, report_options, context);
    return;
  }
  if (!load_suppressions(options.suppression_files, report_options.suppressions, context)) {
    return;
  }
  LeakReport report = build_report(*snapshot, symbolizer, report_options);
  if (Result<EventReader> events = EventReader::open(target->path)) {
    report.events = events->next().events;
  }
  if (Result<std::optional<HeapPeak>> peak = read_heap_peak(target->path); peak && *peak) {
    report.peak = report_peak(std::move(**peak), symbolizer, kPeakStacks);
  }
  end_progress();
  context.out << (options.wants_json() ? report_json(report) : report_text(report, report_options));
  if (options.fail_on_leak && has_leaks(report)) {
    context.exit_code = kExitLeaksInRun;
  }
}

}  // namespace

void add_report(CLI::App& app, CommandContext& context) {
  auto* command = app.add_subcommand("report", "What a process left behind, also after kill -9");
  command->footer(kReportHelp);
  auto options = std::make_shared<ReportCommandOptions>();
  add_target(*command, *options);
  command->add_flag("--all", options->all, "Every process of this host that ended, newest first");
  add_formats(*command, *options, "text, json or pprof", {"text", "json", "pprof"});
  add_selection(*command, *options,
                "Leave out stacks that hold fewer bytes, and do not fail for them");
  add_suppressions(*command, options->suppression_files);
  command->add_flag("-a,--all-caches", options->all_caches, "Also caches that hold nothing now");
  add_symbols(*command, *options);
  command->add_flag("--fail-on-leak", options->fail_on_leak, "Exit with 23 if objects are left");
  command->callback([options, &context] { show_report(*options, context); });
}

}  // namespace slabscope
