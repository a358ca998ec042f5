// SPDX-License-Identifier: MIT

#include <CLI/App.hpp>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <ostream>
#include <system_error>
#include <utility>

#include "exporter/base/child.h"
#include "exporter/base/listen_address.h"
#include "exporter/base/shim.h"
#include "exporter/base/text.h"
#include "exporter/commands/commands.h"
#include "exporter/commands/exit_check.h"
#include "exporter/commands/stack_options.h"
#include "exporter/output/http.h"
#include "exporter/output/pprof.h"
#include "exporter/output/report.h"
#include "exporter/output/report_options.h"
#include "exporter/output/scraper.h"
#include "exporter/source/attach.h"
#include "exporter/source/targets.h"

namespace slabscope {
namespace {

constexpr const char* kRunHelp = R"(
Runs PROGRAM with libslabscope.so as its malloc. When PROGRAM ends, its memory is searched for
pointers, and what is lost is reported by stack; what it still could reach is counted (JSON lists
it). If that cannot be done (PROGRAM was killed, or ptrace is refused) all that it had not freed is
listed. What slabscope says goes to stderr or to the --report file; PROGRAM's output stays its own.

The exit code is PROGRAM's own, or 128+N if signal N killed it; with --fail-on-leak it is 23 when
something was lost (if nothing could be searched: when something remained), whatever code PROGRAM
exited with; 126 or 127 if it cannot be run, 125 for our own trouble.

Examples:
  slabscope run -- ./server --port 8080
  slabscope run --listen 127.0.0.1:9464 -- ./server     then: curl localhost:9464/metrics
  slabscope run --fail-on-leak --min-bytes 1024 -- ./unit_tests
  slabscope run --report leaks.json --format json -- ./server
  slabscope run --report heap.pb.gz --format pprof -- ./server    for go tool pprof
  slabscope run --track sampled -- ./server             nearly free; stacks of a sample only
)";

struct RunOptions {
  std::vector<std::string> command;
  std::string listen;
  std::string track = "all";
  std::string report_file;
  std::string format = "text";
  std::vector<std::string> suppression_files;
  std::shared_ptr<const Debuginfod> servers;
  std::string roots = "all";
  bool fail_on_leak = false;
  uint64_t min_bytes = 0;
  std::string app;
};

std::string check_track(const std::string& text) {
  constexpr std::string_view kSampled = "sampled:";
  const bool sized = text.starts_with(kSampled) && text.size() > kSampled.size() &&
                     text.find_first_not_of("0123456789", kSampled.size()) == std::string::npos;
  return sized || text == "all" || text == "sampled" || text == "off"
             ? ""
             : "'" + text + "' is none of all, sampled, sampled:BYTES, off";
}

uint64_t realtime_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

std::vector<std::string> child_environment(const RunOptions& options, const std::string& shim) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    environment.emplace_back(*entry);
  }
  std::vector<std::pair<std::string, std::string>> settings = {
      {"SLABSCOPE_TRACK", options.track}, {"SLABSCOPE_WATCHER", std::to_string(getpid())}};
  if (std::getenv("SLABSCOPE_REPORT") == nullptr) {
    settings.emplace_back("SLABSCOPE_REPORT", "off");  // we report, and with names
  }
  if (!options.app.empty()) {
    settings.emplace_back("SLABSCOPE_APP", options.app);
  }
  return preload_environment(std::move(environment), shim, settings);
}

// The metrics server of --listen, with the scraper that feeds it.
struct Metrics {
  Scraper scraper{[] {
    ScraperOptions options;
    options.reaping = Reaping::kOff;  // the report wants the file
    return options;
  }()};
  HttpServer server{scraper};
};

// Nothing when the address is unusable; the context then knows.
std::unique_ptr<Metrics> bind_metrics(const std::string& listen, CommandContext& context) {
  const Result<ListenAddress> wanted = parse_listen_address(listen);
  auto metrics = std::make_unique<Metrics>();
  const Result<ListenAddress> bound =
      wanted ? metrics->server.bind(*wanted) : Result<ListenAddress>(wanted.failure());
  if (!bound) {
    fail(context, kExitUsage, bound.failure().message);
    return nullptr;
  }
  context.err << "slabscope: listening on " << url_of(*bound) << std::endl;
  return metrics;
}

bool write_report(const std::string& text, const RunOptions& options, CommandContext& context) {
  if (options.report_file.empty()) {
    context.err << text << std::flush;
    return true;
  }
  std::ofstream file(options.report_file, std::ios::binary | std::ios::trunc);
  file << text << std::flush;
  if (!file) {
    fail(context, kExitFailure,
         "cannot write the report to " + printable_utf8(options.report_file) + ": " +
             std::generic_category().message(errno));
  }
  return file.good();
}

// The program that was run.
struct Child {
  pid_t pid;
  uint64_t started_ns;  // CLOCK_REALTIME, or a little before
  ChildEnd end;
};

ReportOptions how_to_report(pid_t child, const RunOptions& options,
                            const Suppressions& suppressions) {
  ReportOptions how = report_options_for(STDERR_FILENO);
  how.min_bytes = options.min_bytes;
  how.suppressions = suppressions;
  how.reachable = true;  // its end is every cache's destroy: all that remains is told
  if (!options.report_file.empty()) {
    how.color = false;
    how.width = ReportOptions().width;
  }
  how.target_hint = std::to_string(child);
  return how;
}

// The report as --format asks for it.
Result<std::string> formatted(const LeakReport& leaks, const ReportOptions& how,
                              const TargetInfo& target, Symbolizer& symbolizer,
                              const RunOptions& options) {
  if (options.format == "pprof") {
    return pprof_of_file(target, symbolizer);
  }
  return options.format == "json" ? report_json(leaks) : report_text(leaks, how);
}

// Reports on the child's scope file and returns the exit code of `run`.
int report(const Child& child, const ExitCheck& exit_check, const RunOptions& options,
           const Suppressions& suppressions, CommandContext& context) {
  const int child_code = child.end.exit_code();
  const Result<TargetInfo> target =
      newest_of_pid(static_cast<uint32_t>(child.pid), child.started_ns);
  if (!target) {
    context.err
        << "slabscope: " << printable_utf8(options.command.front())
        << " left no scope file, so there is nothing to report: it may be statically linked "
           "or set-uid, or no directory for the file is writable (see SLABSCOPE_DIR)"
        << std::endl;
    return child_code;
  }
  const Result<Snapshot> snapshot = attach(target->path, Include::kEverything);
  if (!snapshot) {
    context.err << "slabscope: no report: " << snapshot.failure().message << std::endl;
    return child_code;
  }
  const ReportOptions how = how_to_report(child.pid, options, suppressions);
  SymbolizerOptions naming;
  naming.servers = options.servers;
  Symbolizer symbolizer(std::move(naming));
  LeakReport leaks = build_report(*snapshot, symbolizer, how, exit_check.result());
  end_progress();
  leaks.end = child.end;
  const Result<std::string> text = formatted(leaks, how, *target, symbolizer, options);
  if (!text) {
    context.err << "slabscope: no report: " << text.failure().message << std::endl;
  }
  if (!text || !write_report(*text, options, context)) {
    return child_code == kExitOk ? kExitFailure : child_code;
  }
  return options.fail_on_leak && !child.end.killed && has_leaks(leaks) ? kExitLeaksInRun
                                                                       : child_code;
}

void run(const RunOptions& options, CommandContext& context) {
  if (options.format == "pprof" && options.report_file.empty()) {
    fail(context, kExitUsage, "a pprof profile is not for a terminal; add --report FILE");
    return;
  }
  Suppressions suppressions;
  if (!load_suppressions(options.suppression_files, suppressions, context)) {
    return;
  }
  const std::optional<std::string> shim = find_shim();
  if (!shim) {
    fail(context, kExitFailure,
         "libslabscope.so is neither beside slabscope nor in its lib directory; set SLABSCOPE_LIB "
         "to its path");
    return;
  }
  const SignalDispositions dispositions = take_dispositions();
  const BlockedSignals signals({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD});
  std::unique_ptr<Metrics> metrics;
  if (!options.listen.empty() && !(metrics = bind_metrics(options.listen, context))) {
    return;
  }
  const uint64_t started_ns = realtime_ns();
  const auto child =
      spawn({options.command, child_environment(options, *shim)}, signals, dispositions);
  if (const auto* failure = std::get_if<ExecFailure>(&child)) {
    const bool missing = failure->error == ENOENT || failure->error == ENOTDIR;
    fail(context, missing ? kExitNoSuchCommand : kExitCannotExecute,
         "cannot run '" + printable_utf8(options.command.front()) +
             "': " + std::generic_category().message(failure->error));
    return;
  }
  if (metrics) {
    metrics->server.start();
  }
  const pid_t pid = std::get<pid_t>(child);
  ExitCheck check(pid, started_ns, root_set(options.roots));
  const ChildEnd end = wait_for(pid, signals, ExitCheck::kPollMs, [&check] { check.poll(); });
  if (metrics) {
    metrics->server.stop();
  }
  context.exit_code = report({pid, started_ns, end}, check, options, suppressions, context);
}

}  // namespace

void add_run(CLI::App& app, CommandContext& context) {
  auto* command = app.add_subcommand("run", "Run a program, report what it did not free");
  command->footer(kRunHelp);
  auto options = std::make_shared<RunOptions>();
  // What follows PROGRAM is PROGRAM's, whatever it looks like.
  command->positionals_at_end();
  command->add_option("PROGRAM", options->command, "The program and its arguments")->required();
  command->add_option("--listen", options->listen,
                      "Serve metrics and a page at ADDRESS:PORT meanwhile; port 0: any free one");
  command
      ->add_option("--track", options->track,
                   "Stacks of `all` allocations, `sampled[:BYTES]`, or `off`")
      ->check(check_track)
      ->envname("SLABSCOPE_TRACK")
      ->capture_default_str();
  command->add_option("--report", options->report_file, "Write the report to FILE, not to stderr");
  command->add_option("--format", options->format, "Of the report: text, json or pprof")
      ->check(CLI::IsMember({"text", "json", "pprof"}))
      ->capture_default_str();
  command->add_flag("--fail-on-leak", options->fail_on_leak,
                    "Exit code 23 when something was lost, unless a signal killed PROGRAM");
  command
      ->add_option("--min-bytes", options->min_bytes,
                   "Leave out stacks that hold fewer bytes, and do not fail for them")
      ->check(check_number);
  add_suppressions(*command, options->suppression_files);
  add_roots(*command, options->roots);
  add_debuginfod(*command, options->servers);
  command->add_option("--app", options->app, "Label `app` of the program's metrics");
  command->callback([options, &context] { run(*options, context); });
}

}  // namespace slabscope
