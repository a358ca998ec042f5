// SPDX-License-Identifier: MIT
//
// stack_options: the options of the commands that list stacks (heap, leaks, report): one meaning
// and one wording for all of them.

#pragma once

#include <CLI/App.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "exporter/analysis/roots.h"
#include "exporter/analysis/suppressions.h"
#include "exporter/analysis/symbolize.h"
#include "exporter/commands/commands.h"
#include "exporter/output/report.h"

namespace slabscope {

struct StackOptions {
  std::string target;
  std::string format = "text";
  size_t top = ReportOptions().top;
  uint64_t min_bytes = 0;
  std::vector<std::string> debug_dirs;
  std::vector<std::string> suppression_files;
  std::shared_ptr<const Debuginfod> servers;
  bool json = false;
  bool no_symbols = false;

  [[nodiscard]] bool wants_json() const { return json || format == "json"; }
  // How a report looks on standard output, with what was asked for.
  [[nodiscard]] ReportOptions report_options() const;
  [[nodiscard]] SymbolizerOptions symbolizer_options() const;
};

// TARGET. `options` outlives the command.
CLI::Option* add_target(CLI::App& command, StackOptions& options);
// --format, one of `formats`, with `help`; --json.
void add_formats(CLI::App& command, StackOptions& options, const std::string& help,
                 const std::vector<std::string>& formats);
// --top; --min-bytes, with `help`.
void add_selection(CLI::App& command, StackOptions& options, const std::string& min_bytes_help);
// --suppressions, into `files`.
void add_suppressions(CLI::App& command, std::vector<std::string>& files);
// Reads them, with warnings to context.err; false if one of them is wrong, which the context knows.
bool load_suppressions(const std::vector<std::string>& files, Suppressions& into,
                       CommandContext& context);
// --roots, into `roots`; what the text means.
void add_roots(CLI::App& command, std::string& roots);
[[nodiscard]] RootSet root_set(const std::string& roots);
// --debuginfod, into `servers`, which stay null without it.
void add_debuginfod(CLI::App& command, std::shared_ptr<const Debuginfod>& servers);
// --no-symbols, --debug-dir, --debuginfod.
void add_symbols(CLI::App& command, StackOptions& options);

}  // namespace slabscope
