// SPDX-License-Identifier: MIT

#include <CLI/App.hpp>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <memory>
#include <ostream>

#include "exporter/base/text.h"
#include "exporter/commands/commands.h"
#include "exporter/output/json.h"
#include "exporter/output/prometheus.h"
#include "exporter/output/table.h"
#include "exporter/source/attach.h"
#include "exporter/source/process_info.h"
#include "exporter/source/targets.h"

namespace slabscope {
namespace {

constexpr const char* kPsHelp = R"(
Lists the processes whose heaps can be looked at: all that run, and the latest that ended.

  running   alive          exited    ended in order; its file stays for a while
  died      SIGKILL, a crash, _exit        replaced  by another program (exec)

Examples:
  slabscope ps
  slabscope ps --json | jq '.targets[] | select(.state == "died") | .pid'
)";

// The dead pile up where programs are short-lived: this many of them are shown without --all.
constexpr size_t kDeadShown = 20;

struct PsOptions {
  bool json = false;
  bool all = false;
  bool bytes = false;
};

// With the app that metrics would show; a dead process has no cgroup to ask.
std::vector<FoundTarget> labelled_targets() {
  std::vector<FoundTarget> targets = find_targets();
  for (FoundTarget& found : targets) {
    if (found.info) {
      found.info->app = app_label(*found.info);
    }
  }
  return targets;
}

std::vector<std::string> row_of(const TargetInfo& info, const PsOptions& options) {
  std::string in_use = "-";
  std::string mapped = "-";
  if (const Result<Snapshot> snapshot = attach(info.path)) {
    const auto size = [&](uint64_t bytes) {
      return options.bytes ? std::to_string(bytes) : human_bytes(bytes);
    };
    const abi::ProcessCounters& counters = snapshot->counters;
    in_use = size(active_bytes(*snapshot));
    mapped =
        size(counters.mapped_slab_bytes + counters.mapped_large_bytes + counters.mapped_free_bytes);
  }
  const std::optional<uint64_t> lifetime = lifetime_ns(info);
  return {std::to_string(info.pid),
          std::string(to_string(info.state)),
          lifetime ? human_duration(*lifetime / 1'000'000'000) : "-",
          in_use,
          mapped,
          std::string(to_string(info.track_mode)),
          info.app,
          info.comm};
}

void print_table(const std::vector<FoundTarget>& targets, const PsOptions& options,
                 CommandContext& context) {
  Table table({{"PID"},
               {"STATE", Align::kLeft},
               {"TIME"},
               {"IN USE"},
               {"MAPPED"},
               {"TRACK", Align::kLeft},
               {"APP", Align::kLeft},
               {"COMMAND", Align::kLeft}});
  size_t dead = 0;
  for (const FoundTarget& found : targets) {
    if (found.info) {
      dead += found.info->state != TargetState::kRunning;
      if (found.info->state != TargetState::kRunning && dead > kDeadShown && !options.all) {
        continue;
      }
      table.add_row(row_of(*found.info, options));
    } else {
      context.err << "slabscope: " << printable_utf8(found.failure->message) << '\n';
    }
  }
  if (table.empty()) {
    context.err << "slabscope: no process runs under slabscope; start one with "
                   "`slabscope run -- PROGRAM`\n";
    return;
  }
  table.print(context.out, isatty(STDOUT_FILENO) != 0 ? Color::kTerminal : Color::kNever);
  if (dead > kDeadShown && !options.all) {
    context.err << "and " << dead - kDeadShown << " more that ended; --all shows them\n";
  }
}

}  // namespace

void add_ps(CLI::App& app, CommandContext& context) {
  auto* command = app.add_subcommand("ps", "The processes that can be looked at, living and dead");
  command->footer(kPsHelp);
  auto options = std::make_shared<PsOptions>();
  command->add_flag("--json", options->json, "Print one JSON object instead of a table");
  command->add_flag("-a,--all", options->all,
                    "Also all that ended long ago (--json has them anyway)");
  command->add_flag("-b,--bytes", options->bytes, "Exact sizes in bytes");
  command->callback([options, &context] {
    const std::vector<FoundTarget> targets = labelled_targets();
    if (options->json) {
      context.out << dump(targets_json(targets));
    } else {
      print_table(targets, *options, context);
    }
  });
}

}  // namespace slabscope
