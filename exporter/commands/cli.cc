// SPDX-License-Identifier: MIT

#include "exporter/cli.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <iostream>
#include <string>

#include "exporter/commands/commands.h"

namespace slabscope {
namespace {

constexpr const char* kAbout = "Looks into the heaps of programs that run under libslabscope.so.";

constexpr const char* kExamples = R"(
Start here:
  slabscope run -- ./server       run a program; at its end, what it did not free, by source line
  slabscope ps                    which processes can be looked at
  slabscope caches server         what the heap of one of them holds now, by size
  slabscope heap server           the same by who allocated it; --format html for a graph
  slabscope events server         what happens to its caches, as it happens
  slabscope serve                 metrics of all of them, for Prometheus, and a web page

TARGET is a pid, a scope file, or a command name, or a unique part of one.
Exit codes: 0 ok, 1 found something, 2 usage, 3 target missing or unreadable;
`run` has its program's own, or 125, 126, 127 as env(1).
`slabscope COMMAND --help` tells more.
)";

// The first line of what CLI11 would say, in our form.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// Help and version are exceptions to CLI11, with exit code 0; anything else is a usage error.
int explain(const CLI::App& app, const CLI::ParseError& error, CommandContext& context) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
    app.exit(error, context.out, context.err);
    return kExitOk;
  }
  std::string name = "slabscope";
  for (const CLI::App* command : app.get_subcommands()) {
    name += " " + command->get_name();
  }
  fail(context, kExitUsage, first_line(error.what()) + "; see `" + name + " --help`");
  return context.exit_code;
}

int parse_and_run(int argc, char** argv, CommandContext& context) {
  CLI::App app(kAbout, "slabscope");
  app.footer(kExamples);
  app.set_version_flag("--version", "slabscope " SLABSCOPE_VERSION);
  app.require_subcommand(0, 1);
  app.get_formatter()->column_width(34);
  add_run(app, context);
  add_ps(app, context);
  add_caches(app, context);
  add_heap(app, context);
  add_report(app, context);
  add_leaks(app, context);
  add_events(app, context);
  add_ctl(app, context);
  add_serve(app, context);
  add_options(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return explain(app, error, context);
  }
  if (app.get_subcommands().empty()) {
    context.err << app.help();
    return kExitUsage;
  }
  context.out.flush();
  return context.exit_code;
}

}  // namespace

void fail(CommandContext& context, int code, std::string_view message) {
  context.err << "slabscope: " << message << std::endl;
  context.exit_code = code;
}

void fail(CommandContext& context, const Failure& failure) {
  fail(context, kExitTarget, failure.message);
}

std::string check_number(const std::string& text) {
  constexpr size_t kDigits = 18;  // well below 2^64
  const bool digits = !text.empty() && text.size() <= kDigits &&
                      text.find_first_not_of("0123456789") == std::string::npos;
  return digits ? "" : "'" + text + "' is not a number";
}

std::string check_seconds(const std::string& text) {
  constexpr size_t kDigits = 6;
  const std::string wrong = check_number(text);
  return !wrong.empty() || (text.size() <= kDigits && text.find_first_not_of('0') != text.npos)
             ? wrong
             : "'" + text + "' is not between 1 and 999999";
}

int run_command_line(int argc, char** argv) {
  CommandContext context{std::cout, std::cerr};
  try {
    return parse_and_run(argc, argv, context);
  } catch (const std::exception& error) {
    fail(context, kExitFailure, error.what());
    return context.exit_code;
  }
}

}  // namespace slabscope
