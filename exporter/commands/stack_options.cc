// SPDX-License-Identifier: MIT

#include "exporter/commands/stack_options.h"

#include <unistd.h>

#include <ostream>
#include <utility>

#include "exporter/analysis/debuginfod.h"
#include "exporter/output/report_options.h"

namespace slabscope {

ReportOptions StackOptions::report_options() const {
  ReportOptions report = report_options_for(STDOUT_FILENO);
  report.top = top;
  report.min_bytes = min_bytes;
  report.target_hint = target;
  return report;
}

SymbolizerOptions StackOptions::symbolizer_options() const {
  SymbolizerOptions symbolizer;
  symbolizer.open_files = !no_symbols;
  symbolizer.debug_dirs = debug_dirs;
  symbolizer.servers = servers;
  return symbolizer;
}

CLI::Option* add_target(CLI::App& command, StackOptions& options) {
  return command.add_option("TARGET", options.target,
                            "A pid, a scope file, or part of a command name");
}

void add_formats(CLI::App& command, StackOptions& options, const std::string& help,
                 const std::vector<std::string>& formats) {
  command.add_option("--format", options.format, help)
      ->check(CLI::IsMember(formats))
      ->capture_default_str();
  command.add_flag("--json", options.json, "The same as --format json");
}

void add_selection(CLI::App& command, StackOptions& options, const std::string& min_bytes_help) {
  command.add_option("--top", options.top, "Stacks in the text, biggest first; 0: all")
      ->check(check_number)
      ->capture_default_str();
  command.add_option("--min-bytes", options.min_bytes, min_bytes_help)->check(check_number);
}

void add_suppressions(CLI::App& command, std::vector<std::string>& files) {
  command
      .add_option("--suppressions", files,
                  "Leaks not to speak of: a FILE of lines leak:PATTERN, as for LeakSanitizer")
      ->allow_extra_args(false);
}

bool load_suppressions(const std::vector<std::string>& files, Suppressions& into,
                       CommandContext& context) {
  Result<Suppressions> read = read_suppressions(files);
  if (!read) {
    fail(context, kExitUsage, read.failure().message);
    return false;
  }
  for (const std::string& warning : read->warnings) {
    context.err << "slabscope: " << warning << std::endl;
  }
  into = std::move(*read);
  return true;
}

void add_roots(CLI::App& command, std::string& roots) {
  command
      .add_option("--roots", roots,
                  "Where pointers are looked for besides stacks, registers and thread-local "
                  "storage: `modules` is what LeakSanitizer does; `all` adds memory that the "
                  "program mapped for itself")
      ->check(CLI::IsMember({"all", "modules"}))
      ->capture_default_str();
}

RootSet root_set(const std::string& roots) {
  return roots == "modules" ? RootSet::kModules : RootSet::kAll;
}

namespace {

std::shared_ptr<const Debuginfod> load_servers() {
  if (!Debuginfod::has_servers()) {
    throw CLI::ValidationError("--debuginfod", "no server is named; set DEBUGINFOD_URLS");
  }
  std::shared_ptr<const Debuginfod> servers = Debuginfod::load();
  if (servers == nullptr) {
    throw CLI::ValidationError("--debuginfod",
                               "there is no libdebuginfod.so.1; install it (libdebuginfod1)");
  }
  return servers;
}

}  // namespace

void add_debuginfod(CLI::App& command, std::shared_ptr<const Debuginfod>& servers) {
  command.add_flag_callback(
      "--debuginfod", [&servers] { servers = load_servers(); },
      "Ask the servers of DEBUGINFOD_URLS for debug files that are not on this host");
}

void add_symbols(CLI::App& command, StackOptions& options) {
  command.add_flag("--no-symbols", options.no_symbols, "Module and offset only; open no binaries");
  command
      .add_option("--debug-dir", options.debug_dirs,
                  "Look here for debug files (.build-id/…) before /usr/lib/debug")
      ->allow_extra_args(false);
  add_debuginfod(command, options.servers);
}

}  // namespace slabscope
