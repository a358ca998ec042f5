// SPDX-License-Identifier: MIT

#include <CLI/App.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <ostream>
#include <thread>

#include "exporter/analysis/leak_check.h"
#include "exporter/commands/accumulation.h"
#include "exporter/commands/commands.h"
#include "exporter/commands/stack_options.h"
#include "exporter/output/heap_json.h"
#include "exporter/output/heap_text.h"
#include "exporter/output/report.h"
#include "exporter/output/report_options.h"
#include "exporter/source/attach.h"
#include "exporter/source/process_snapshot.h"
#include "exporter/source/targets.h"

namespace slabscope {
namespace {

constexpr const char* kLeaksHelp = R"(
Searches the memory of a living process for pointers, and tells which of its objects are lost:

  definite    nothing in the program leads to the object any more
  indirect    only objects that are lost themselves lead to it
  reachable   the program can still get at it: not a leak (listed with --reachable)

The process is stopped for the time of a fork, some milliseconds, and goes on while its copy is
searched; it sees no signal and no child. Where it cannot be copied (a seccomp filter, no memory)
it stands still for the whole search. The time is said. Where ptrace is refused, what is allocated
is listed by stack, and why nothing was searched.

Stacks are known for sampled objects; start the program with SLABSCOPE_TRACK=all for all of them.

Examples:
  slabscope leaks server                        what the newest "server" has lost so far
  slabscope leaks 4711 --json | jq .totals
  slabscope leaks 4711 --fail-on-leak --min-bytes 4096
  slabscope leaks 4711 --suppressions known.supp
  slabscope leaks 4711 --since 5m --seconds 60  and what is kept for minutes, and grows

Exit codes: 0; 1 with --fail-on-leak if something is lost; 3 target missing or not alive; 2 usage.
)";

struct LeaksCommandOptions : StackOptions {
  std::string roots = "all";
  std::string since;
  uint64_t seconds = 10;
  bool fail_on_leak = false;
  bool reachable = false;
};

struct Checked {
  Snapshot snapshot;
  LeakCheck check;
};

// The records are read after the memory, so that what was allocated before is known.
Result<Checked> check_target(const TargetInfo& target, RootSet roots) {
  Result<std::unique_ptr<ProcessSnapshot>> memory =
      ProcessSnapshot::take(target, ExitStatus::kOfOthers);
  Result<Snapshot> snapshot = attach(target.path, Include::kEverything);
  if (!snapshot) {
    return snapshot.failure();
  }
  snapshot->target.state = target.state;
  Checked result{std::move(*snapshot), {}};
  if (!memory) {
    result.check.refused = memory.failure().message;
    return result;
  }
  Result<LeakCheck> check = check_leaks(**memory, result.snapshot, roots);
  (*memory)->release();
  if (check) {
    result.check = std::move(*check);
    result.check.pause = (*memory)->pause();
  } else {
    result.check.refused = check.failure().message;
  }
  return result;
}

// Growth comes after the leaks: in the text as a part of its own, in JSON as one more key.
void add_growth(const HeapGrowth& growth, uint64_t age, const LeaksCommandOptions& options,
                const ReportOptions& how, std::string& text) {
  if (!options.wants_json()) {
    text += "\n" + accumulated_text(growth, age, how);
    return;
  }
  text.resize(text.rfind('}'));
  text.resize(text.find_last_not_of(" \n") + 1);
  text += ",\n  \"since_seconds\": " + std::to_string(age) +
          ",\n  \"growing\": " + growth_json(growth, options.min_bytes) + "}\n";
}

void show_leaks(const LeaksCommandOptions& options, CommandContext& context) {
  ReportOptions how = options.report_options();
  how.reachable = options.reachable;
  if (!load_suppressions(options.suppression_files, how.suppressions, context)) {
    return;
  }
  const Result<TargetInfo> target = resolve_target(options.target);
  if (!target) {
    fail(context, target.failure());
    return;
  }
  if (target->state != TargetState::kRunning) {
    fail(context, kExitTarget,
         "process " + std::to_string(target->pid) +
             " has ended, and its memory is gone; what it left is told by: slabscope report " +
             options.target);
    return;
  }
  std::optional<Snapshot> earlier;
  const uint64_t age = duration_seconds(options.since);
  if (age != 0) {
    Result<Snapshot> first = attach(target->path, Include::kEverything);
    if (!first) {
      fail(context, first.failure());
      return;
    }
    earlier = std::move(*first);
    std::this_thread::sleep_for(std::chrono::seconds(options.seconds));
  }
  const Result<Checked> checked = check_target(*target, root_set(options.roots));
  if (!checked) {
    fail(context, checked.failure());
    return;
  }
  Symbolizer symbolizer(options.symbolizer_options());
  const LeakReport report = build_report(checked->snapshot, symbolizer, how, &checked->check);
  end_progress();
  std::string text = options.wants_json() ? report_json(report) : report_text(report, how);
  if (earlier) {
    add_growth(accumulation(*earlier, checked->snapshot, checked->check, age, symbolizer,
                            {Freed::kLeaveOut, how.progress}),
               age, options, how, text);
    end_progress();
  }
  context.out << text;
  if (options.fail_on_leak && report.checked && has_leaks(report)) {
    context.exit_code = kExitFound;
  }
}

}  // namespace

void add_leaks(CLI::App& app, CommandContext& context) {
  auto* command = app.add_subcommand("leaks", "What a living process has lost for good");
  command->footer(kLeaksHelp);
  auto options = std::make_shared<LeaksCommandOptions>();
  add_target(*command, *options)->required();
  add_formats(*command, *options, "text or json", {"text", "json"});
  add_selection(*command, *options,
                "Leave out stacks that hold fewer bytes, and do not fail for them");
  add_suppressions(*command, options->suppression_files);
  command->add_flag("--reachable", options->reachable, "Also list what is not lost");
  add_roots(*command, options->roots);
  command
      ->add_option("--since", options->since,
                   "Also what is not lost but accumulates: stacks whose objects older than AGE "
                   "(90s, 5m, 2h) become more within --seconds")
      ->type_name("AGE")
      ->check(check_duration);
  command->add_option("--seconds", options->seconds, "How long --since watches")
      ->check(check_seconds)
      ->capture_default_str();
  add_symbols(*command, *options);
  command->add_flag("--fail-on-leak", options->fail_on_leak, "Exit with 1 if something is lost");
  command->callback([options, &context] { show_leaks(*options, context); });
}

}  // namespace slabscope
