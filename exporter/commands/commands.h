// SPDX-License-Identifier: MIT
//
// The commands, one file each.
//
//   main ─► run_command_line() ─► add_<name>(app, context) ─► callback ─► context.exit_code
//
// add_<name> registers a subcommand; its callback does the work and stores the exit code. Data
// goes to context.out, everything said to a person to context.err. A callback may throw: main
// turns what it catches into one line and kExitFailure.

#pragma once

#include <iosfwd>
#include <string>
#include <string_view>

#include "exporter/base/result.h"

namespace CLI {
class App;
}  // namespace CLI

namespace slabscope {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFound = 1;  // leaks with the flag, a limit exceeded
inline constexpr int kExitUsage = 2;
inline constexpr int kExitTarget = 3;       // the target is missing or unreadable
inline constexpr int kExitLeaksInRun = 23;  // `run --fail-on-leak`
inline constexpr int kExitFailure = 125;    // our own trouble, as env(1)
inline constexpr int kExitCannotExecute = 126;
inline constexpr int kExitNoSuchCommand = 127;

struct CommandContext {
  std::ostream& out;
  std::ostream& err;
  int exit_code = kExitOk;
};

// Prints "slabscope: MESSAGE" and stores `code`.
void fail(CommandContext& context, int code, std::string_view message);
// The same for a target that could not be found or read.
void fail(CommandContext& context, const Failure& failure);

// For CLI11's check(): "" when the text is a number, else what is wrong. Without it a -1 would
// become 2^64 - 1.
std::string check_number(const std::string& text);
// The same for a number of seconds to wait.
std::string check_seconds(const std::string& text);

void add_run(CLI::App& app, CommandContext& context);
void add_ps(CLI::App& app, CommandContext& context);
void add_caches(CLI::App& app, CommandContext& context);
void add_serve(CLI::App& app, CommandContext& context);
void add_heap(CLI::App& app, CommandContext& context);
void add_report(CLI::App& app, CommandContext& context);
void add_leaks(CLI::App& app, CommandContext& context);
void add_events(CLI::App& app, CommandContext& context);
void add_ctl(CLI::App& app, CommandContext& context);
void add_options(CLI::App& app, CommandContext& context);

}  // namespace slabscope
