// SPDX-License-Identifier: MIT

#include "exporter/commands/stack_options.h"

#include <unistd.h>

#include "exporter/commands/commands.h"
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

void add_symbols(CLI::App& command, StackOptions& options) {
  command.add_flag("--no-symbols", options.no_symbols, "Module and offset only; open no binaries");
  command.add_option("--debug-dir", options.debug_dirs,
                     "Look here for debug files (.build-id/…) before /usr/lib/debug");
}

}  // namespace slabscope
