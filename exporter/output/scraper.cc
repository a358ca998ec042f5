// SPDX-License-Identifier: MIT

#include "exporter/output/scraper.h"

#include <algorithm>
#include <ctime>
#include <set>

#include "exporter/source/attach.h"
#include "exporter/source/process_info.h"
#include "exporter/source/reap.h"

namespace slabscope {
namespace {

using Clock = std::chrono::steady_clock;

// A table of tracked objects above this is not gone through by a scrape (160 MiB, about 50 ms).
constexpr uint64_t kMaxSummarizedObjects = 4 << 20;

constexpr FamilyInfo kBuildInfo{"slabscope_exporter_build_info", MetricKind::kGauge,
                                "Build of this exporter; the value is always 1."};
constexpr FamilyInfo kTargets{
    "slabscope_exporter_targets", MetricKind::kGauge,
    "Target files found at the last scan, by state (running, exited, died, replaced, not_ready, "
    "unreadable, version_mismatch, truncated, corrupt)."};
constexpr FamilyInfo kScanDuration{"slabscope_exporter_scan_duration_seconds", MetricKind::kGauge,
                                   "Time the last scan of the target directories took."};
constexpr FamilyInfo kScrapeDuration{"slabscope_exporter_scrape_duration_seconds",
                                     MetricKind::kGauge, "Time this scrape spent in a collector."};
constexpr FamilyInfo kScrapeSuccess{"slabscope_exporter_scrape_success", MetricKind::kGauge,
                                    "1 if the collector finished without an error, else 0."};
constexpr FamilyInfo kDroppedSeries{
    "slabscope_exporter_dropped_series", MetricKind::kGauge,
    "Series left out of this scrape to keep within the configured limits."};

constexpr const char* kStates[] = {"running",   "exited",           "died",
                                   "replaced",  "not_ready",        "unreadable",
                                   "truncated", "version_mismatch", "corrupt"};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

uint64_t now_seconds() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec);
}

}  // namespace

Scraper::Scraper(ScraperOptions options) : options_(std::move(options)), clock_(now_seconds) {}

void Scraper::scan() {
  const Clock::time_point begin = Clock::now();
  ++scans_;
  views_.clear();
  states_.clear();
  ledger_.begin_scan();
  const auto known = [this](const std::string& path, FileId id) -> const TargetInfo* {
    const auto found = dead_.find(id);
    const bool same = found != dead_.end() && found->second.snapshot->target.path == path;
    return same ? &found->second.snapshot->target : nullptr;
  };
  for (const FoundTarget& found : find_targets(
           options_.directories.empty() ? target_directories() : options_.directories, known)) {
    read_target(found);
  }
  remember_dead();
  ledger_.end_scan(clock_());
  ledger_.forget_after(clock_(), options_.forget_after_s);
  for (const ProcessView& view : views_) {
    reap_if_due(*view.snapshot);
  }
  scan_seconds_ = seconds_since(begin);
}

void Scraper::read_target(const FoundTarget& found) {
  if (!found.info) {
    ++states_[std::string(state_of_failure(found.failure->code))];
    ledger_.saw_unread(found.file);
    return;
  }
  if (const auto dead = dead_.find(found.file);
      dead != dead_.end() && dead->second.snapshot->target.path == found.path) {
    ++states_[std::string(to_string(found.info->state))];
    ledger_.saw_unread(found.file);
    views_.push_back(dead->second);
    return;
  }
  Result<Snapshot> snapshot = attach(found.path);
  if (!snapshot) {
    ++states_[std::string(state_of_failure(snapshot.failure().code))];
    ledger_.saw_unread(found.file);
    return;
  }
  if (found.info->state == TargetState::kReplaced) {
    snapshot->target.state = TargetState::kReplaced;
  }
  ProcessView view;
  view.app = ledger_.app_of(snapshot->target).value_or("");
  if (view.app.empty()) {
    view.app = app_label(snapshot->target);
  }
  ++states_[std::string(to_string(snapshot->target.state))];
  ledger_.saw(snapshot->target, view.app, totals_of(*snapshot));
  view.snapshot = std::make_shared<const Snapshot>(std::move(*snapshot));
  views_.push_back(std::move(view));
}

void Scraper::remember_dead() {
  dead_.clear();
  for (const ProcessView& view : views_) {
    const TargetInfo& target = view.snapshot->target;
    if (target.state != TargetState::kRunning && !target.locked) {
      dead_.emplace(target.file, view);
    }
  }
}

void Scraper::reap_if_due(const Snapshot& snapshot) {
  const TargetInfo& target = snapshot.target;
  if (options_.reaping == Reaping::kOff || target.state == TargetState::kRunning) {
    return;
  }
  const std::optional<uint64_t> dead_for = ledger_.dead_for(target, clock_());
  if (dead_for && *dead_for >= options_.reap_after_s) {
    // Its counts are in the ledger, which takes them over when the next scan misses the file. A
    // refusal (somebody else's file) is no loss: the file goes on counting as it is.
    (void)reap(target);
  }
}

void Scraper::measure() {
  const Clock::time_point begin = Clock::now();
  std::vector<ProcessView*> queue;
  std::set<FileId> present;
  for (ProcessView& view : views_) {
    present.insert(view.snapshot->target.file);
    if (view.snapshot->target.state == TargetState::kRunning) {
      queue.push_back(&view);
    }
  }
  std::erase_if(measured_, [&](const auto& entry) { return !present.contains(entry.first); });
  std::stable_sort(queue.begin(), queue.end(), [&](const ProcessView* a, const ProcessView* b) {
    return measured_[a->snapshot->target.file].at_scan <
           measured_[b->snapshot->target.file].at_scan;
  });
  for (ProcessView* view : queue) {
    const TargetInfo& target = view->snapshot->target;
    Measured& measured = measured_[target.file];
    if (view == queue.front() || Clock::now() - begin < options_.measure_budget) {
      measured.at_scan = scans_;
      measured.resident_bytes = resident_heap_bytes(target);
      Result<ObjectSummary> objects = summarize_objects(target.path, kMaxSummarizedObjects);
      measured.objects = objects ? std::optional(*objects) : std::nullopt;
    }
    view->resident_bytes = measured.resident_bytes;
    view->objects = measured.objects;
  }
}

void Scraper::collect(std::vector<prometheus::MetricFamily>& all, const std::string& name,
                      const std::function<void(FamilySet&)>& collector) {
  const Clock::time_point begin = Clock::now();
  bool success = false;
  try {
    FamilySet families;
    collector(families);
    for (prometheus::MetricFamily& family : families.take()) {
      all.push_back(std::move(family));
    }
    success = true;
  } catch (const std::exception&) {
    // Said by slabscope_exporter_scrape_success; the other collectors go on.
  }
  collectors_[name] = {seconds_since(begin), success};
}

void Scraper::add_exporter_metrics(FamilySet& families) const {
  families.add(kBuildInfo,
               {label("version", SLABSCOPE_VERSION), label("revision", options_.revision)},
               uint64_t{1});
  for (const char* state : kStates) {
    const auto found = states_.find(state);
    families.add(kTargets, {label("state", state)},
                 found == states_.end() ? uint64_t{0} : found->second);
  }
  families.add(kScanDuration, {}, scan_seconds_);
  for (const auto& [name, result] : collectors_) {
    families.add(kScrapeDuration, {label("collector", name)}, result.first);
    families.add(kScrapeSuccess, {label("collector", name)}, uint64_t{result.second});
  }
  families.add(kDroppedSeries, {label("reason", "limit")}, dropped_series_);
}

std::string Scraper::metrics() {
  const std::lock_guard lock(mutex_);
  std::vector<prometheus::MetricFamily> families;
  std::vector<Subject> subjects;
  collectors_.clear();
  dropped_series_ = 0;
  collect(families, "targets", [&](FamilySet&) { scan(); });
  collect(families, "measure", [&](FamilySet&) { measure(); });
  const Grouping grouping = options_.metrics.grouping;
  collect(families, "process", [&](FamilySet& set) {
    subjects = make_subjects(views_, ledger_.app_totals(), grouping);
    add_process_metrics(set, subjects, grouping);
  });
  collect(families, "cache", [&](FamilySet& set) {
    dropped_series_ = add_cache_metrics(set, subjects, options_.metrics);
  });
  if (extra_) {
    collect(families, "extra", extra_);
  }
  FamilySet own;
  add_exporter_metrics(own);
  std::vector<prometheus::MetricFamily> all = own.take();
  std::move(families.begin(), families.end(), std::back_inserter(all));
  return serialize(all);
}

std::vector<ProcessView> Scraper::processes() {
  const std::lock_guard lock(mutex_);
  scan();
  measure();
  return views_;
}

}  // namespace slabscope
