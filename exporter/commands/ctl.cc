// SPDX-License-Identifier: MIT

#include <CLI/App.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <charconv>
#include <memory>
#include <optional>
#include <ostream>

#include "exporter/commands/commands.h"
#include "exporter/output/json.h"
#include "exporter/output/phrases.h"
#include "exporter/source/mailbox.h"
#include "exporter/source/targets.h"

namespace slabscope {
namespace {

constexpr const char* kCtlHelp = R"(
Asks a living process for something. It looks into its mailbox when one of its threads next passes
the allocator's slow path: within microseconds if it allocates, and not at all while it is idle.

  track off            no more stacks; those of objects in use stay
  track all            a stack of every allocation from now on
  track sampled        a stack every 512 KiB on average; track sampled:BYTES: every BYTES
  shrink               free memory on threads' lists and in empty slabs becomes free pages
  purge                that, and free pages go back to the kernel

Counts by cache stay exact. Objects that were allocated before a switch keep what is known of them;
each sample keeps the weight it was taken with. Threads follow at their next visit to the slow path.

Examples:
  slabscope ctl server track all
  slabscope ctl 4711 purge
  slabscope ctl 4711 track sampled:65536 --json

Exit codes: 0 done; 1 the process has not looked within --timeout (the request stays, and is done
when it does), or refused; 2 usage; 3 target missing, not alive, or not yours.
)";

constexpr uint64_t kDefaultInterval = 512 << 10;

struct CtlOptions {
  std::string target;
  std::string action;
  std::string argument;
  uint64_t timeout = 2;
  bool json = false;
};

// What `track` takes; nothing if the text is none.
std::optional<uint64_t> interval_of(const std::string& text) {
  constexpr std::string_view kSampled = "sampled:";
  if (text == "off" || text == "all") {
    return text == "off" ? 0 : 1;
  }
  if (text == "sampled") {
    return kDefaultInterval;
  }
  uint32_t bytes = 0;
  const char* end = text.data() + text.size();
  if (!text.starts_with(kSampled)) {
    return std::nullopt;
  }
  const auto parsed = std::from_chars(text.data() + kSampled.size(), end, bytes);
  return parsed.ec == std::errc() && parsed.ptr == end && bytes > 1 ? std::optional<uint64_t>(bytes)
                                                                    : std::nullopt;
}

std::string mode_text(uint64_t interval) {
  return interval == 0 ? "off" : interval == 1 ? "all" : fmt::format("sampled:{}", interval);
}

std::string done_text(const CtlOptions& options, uint64_t argument, uint64_t value) {
  if (options.action == "track") {
    return value == argument
               ? fmt::format("tracking was {} already", mode_text(value))
               : fmt::format("tracking: {}, before: {}", mode_text(argument), mode_text(value));
  }
  return options.action == "shrink" ? fmt::format("{} given back", counted(value, "slab"))
                                    : fmt::format("{} given back to the kernel", bytes_text(value));
}

std::string_view state_text(RequestOutcome::State state) {
  using State = RequestOutcome::State;
  return state == State::kDone ? "done" : state == State::kRefused ? "refused" : "pending";
}

void tell(const CtlOptions& options, const TargetInfo& target, uint64_t argument,
          const RequestOutcome& outcome, CommandContext& context) {
  using State = RequestOutcome::State;
  if (options.json) {
    nlohmann::ordered_json json = {{"schema", 1},
                                   {"target", target_json(target)},
                                   {"action", options.action},
                                   {"argument", argument},
                                   {"status", state_text(outcome.state)},
                                   {"replaced", outcome.replaced}};
    json["value"] = outcome.state == State::kDone ? nlohmann::ordered_json(outcome.value)
                                                  : nlohmann::ordered_json();
    context.out << dump(json);
  } else if (outcome.state == State::kDone) {
    context.out << fmt::format("{} ({}): {}\n", target.comm, target.pid,
                               done_text(options, argument, outcome.value));
  }
  if (outcome.replaced) {
    context.err << "slabscope: an earlier request was still waiting; this one took its place\n";
  }
  if (outcome.state == State::kPending) {
    fail(context, kExitFound,
         fmt::format("process {} has not looked into its mailbox within {} s: it allocates little "
                     "or nothing now. The request stays, and is done when it does",
                     target.pid, options.timeout));
  } else if (outcome.state == State::kRefused) {
    fail(context, kExitFound,
         fmt::format("process {} refused: its libslabscope.so does not know the request",
                     target.pid));
  }
}

void ask(const CtlOptions& options, CommandContext& context) {
  uint64_t argument = 0;
  abi::Action action = options.action == "shrink" ? abi::Action::kShrink : abi::Action::kPurge;
  if (options.action == "track") {
    const std::optional<uint64_t> interval = interval_of(options.argument);
    if (!interval) {
      fail(context, kExitUsage,
           "track takes off, all, sampled or sampled:BYTES (2 to 4294967295), not '" +
               options.argument + "'");
      return;
    }
    action = abi::Action::kTrack;
    argument = *interval;
  } else if (!options.argument.empty()) {
    fail(context, kExitUsage, options.action + " takes no argument");
    return;
  }
  const Result<TargetInfo> target = resolve_target(options.target);
  if (!target) {
    fail(context, target.failure());
    return;
  }
  const Result<RequestOutcome> outcome =
      ask_target(*target, action, argument, std::chrono::seconds(options.timeout));
  if (!outcome) {
    fail(context, outcome.failure());
    return;
  }
  tell(options, *target, argument, *outcome, context);
}

}  // namespace

void add_ctl(CLI::App& app, CommandContext& context) {
  auto* command = app.add_subcommand("ctl", "Ask a living process: other tracking, memory back");
  command->footer(kCtlHelp);
  auto options = std::make_shared<CtlOptions>();
  command->add_option("TARGET", options->target, "A pid, a scope file, or part of a command name")
      ->required();
  command->add_option("ACTION", options->action, "track, shrink or purge")
      ->required()
      ->check(CLI::IsMember({"track", "shrink", "purge"}));
  command->add_option("ARGUMENT", options->argument, "of track: off, all, sampled, sampled:BYTES");
  command->add_option("--timeout", options->timeout, "Seconds to wait for the process; 0: do not")
      ->check(check_number)
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON object");
  command->callback([options, &context] { ask(*options, context); });
}

}  // namespace slabscope
