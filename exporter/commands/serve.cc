// SPDX-License-Identifier: MIT

#include <CLI/App.hpp>

#include <memory>
#include <optional>
#include <ostream>
#include <regex>

#include "exporter/base/listen_address.h"
#include "exporter/base/signals.h"
#include "exporter/commands/commands.h"
#include "exporter/output/http.h"
#include "exporter/output/scraper.h"

namespace slabscope {
namespace {

constexpr const char* kServeHelp = R"(
Serves the metrics of every process under slabscope on this host that this user may read; as root,
of all of them. Nothing is asked of the processes: only their scope files are read.

  /metrics   for Prometheus           /                what a person wants to see
  /sd        service discovery        /api/v1/targets  /api/v1/caches?target=PID
  /-/healthy                          /api/v1/heap?pid=N
  /debug/pprof/heap?pid=N  for pprof  /heap?pid=N  the live heap as a flame graph

Files of dead processes are removed once their counts have been taken over, after --reap-after.

Examples:
  slabscope serve
  slabscope serve --listen 0.0.0.0:9464 --cache-exclude 'malloc-.*'
  curl localhost:9464/metrics
  go tool pprof -top 'http://localhost:9464/debug/pprof/heap?pid=4711'
)";

struct ServeOptions {
  std::string listen{kDefaultListen};
  std::string collector_cache = "full";
  std::string include;
  std::string exclude;
  bool per_process = false;
  uint64_t max_series = MetricOptions{}.max_cache_series;
  uint64_t reap_after_s = ScraperOptions{}.reap_after_s;
  bool no_reap = false;
};

std::optional<std::regex> compile(const std::string& pattern) {
  return pattern.empty() ? std::nullopt : std::optional(std::regex(pattern, std::regex::optimize));
}

std::string check_regex(const std::string& pattern) {
  try {
    const std::regex compiled(pattern);
    return "";
  } catch (const std::regex_error& error) {
    return "'" + pattern + "' is no regular expression: " + error.what();
  }
}

ScraperOptions scraper_options(const ServeOptions& options) {
  ScraperOptions scraper;
  scraper.metrics.cache_detail = options.collector_cache == "off"     ? CacheDetail::kOff
                                 : options.collector_cache == "basic" ? CacheDetail::kBasic
                                                                      : CacheDetail::kFull;
  scraper.metrics.cache_include = compile(options.include);
  scraper.metrics.cache_exclude = compile(options.exclude);
  scraper.metrics.grouping = options.per_process ? Grouping::kByProcess : Grouping::kByApp;
  scraper.metrics.max_cache_series = options.max_series;
  scraper.reaping = options.no_reap ? Reaping::kOff : Reaping::kOn;
  scraper.reap_after_s = options.reap_after_s;
  return scraper;
}

void serve(const ServeOptions& options, CommandContext& context) {
  const Result<ListenAddress> wanted = parse_listen_address(options.listen);
  if (!wanted) {
    fail(context, kExitUsage, wanted.failure().message);
    return;
  }
  // Before any thread starts, so that all of them leave these signals to us.
  const BlockedSignals signals({SIGINT, SIGTERM});
  Scraper scraper(scraper_options(options));
  HttpServer server(scraper);
  const Result<ListenAddress> bound = server.bind(*wanted);
  if (!bound) {
    fail(context, kExitUsage, bound.failure().message);
    return;
  }
  server.start();
  context.err << "listening on " << url_of(*bound) << std::endl;
  (void)signals.wait();
  server.stop();
}

}  // namespace

void add_serve(CLI::App& app, CommandContext& context) {
  auto* command = app.add_subcommand("serve", "Metrics and a web page of all processes");
  command->footer(kServeHelp);
  auto options = std::make_shared<ServeOptions>();
  command->add_option("--listen", options->listen, "ADDRESS:PORT; port 0: any free one")
      ->capture_default_str();
  command
      ->add_option("--collector.cache", options->collector_cache,
                   "Series a cache: off, basic, full")
      ->check(CLI::IsMember({"off", "basic", "full"}))
      ->capture_default_str();
  command
      ->add_option("--cache-include", options->include, "Only caches whose whole name fits REGEX")
      ->check(check_regex);
  command->add_option("--cache-exclude", options->exclude, "No caches whose whole name fits REGEX")
      ->check(check_regex);
  command
      ->add_option("--max-cache-series", options->max_series,
                   "Leave out caches beyond this many series")
      ->check(check_number)
      ->capture_default_str();
  command->add_flag("--per-process", options->per_process,
                    "Series a process, not an app: adds pid and instance_id");
  command
      ->add_option("--reap-after", options->reap_after_s,
                   "SECONDS that files of dead processes are kept")
      ->check(check_number)
      ->capture_default_str();
  command->add_flag("--no-reap", options->no_reap, "Never remove a file");
  command->callback([options, &context] { serve(*options, context); });
}

}  // namespace slabscope
