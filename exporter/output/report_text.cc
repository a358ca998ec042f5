// SPDX-License-Identifier: MIT
//
// The report as a person reads it: what remains in one line, who allocated it, which caches hold
// it, and what would make the next report better.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>

#include "exporter/base/saturating.h"
#include "exporter/base/text.h"
#include "exporter/output/event_text.h"
#include "exporter/output/phrases.h"
#include "exporter/output/report.h"
#include "exporter/output/stack_text.h"

namespace slabscope {
namespace {

constexpr uint64_t kMegabyte = 1 << 20;
constexpr size_t kShownCaches = 20;
constexpr size_t kShownEvents = 10;

std::span<const std::string> first_of(const std::vector<std::string>& modules) {
  constexpr size_t kMost = 3;
  return std::span(modules).first(std::min(kMost, modules.size()));
}

class TextReport {
 public:
  TextReport(const LeakReport& report, const ReportOptions& options)
      : report_(report), options_(options) {}

  std::string write();

 private:
  template <typename... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  std::string painted(std::string_view code, std::string text) const {
    return options_.color ? fmt::format("\033[{}m{}\033[0m", code, text) : text;
  }

  void write_headline();
  void write_checked_headline(const std::string& who);
  void write_checked_meaning();
  void write_process();
  void write_meaning();
  void write_entries();
  void write_entry(const LeakEntry& entry);
  void write_ownership(const LeakEntry& entry);
  void write_suppressions();
  void write_caches();
  void write_explained();
  void write_history();
  void write_hints();
  bool tracked() const {
    return report_.target.track_mode != abi::TrackMode::kOff || report_.samples != 0;
  }
  // Only a living process can be checked again.
  bool is_alive() const { return report_.target.state == TargetState::kRunning; }
  std::string target_hint() const {
    return options_.target_hint.empty() ? "TARGET" : options_.target_hint;
  }

  const LeakReport& report_;
  const ReportOptions& options_;
  std::string text_;
};

std::string TextReport::write() {
  write_headline();
  write_process();
  write_meaning();
  write_entries();
  write_suppressions();
  if (!report_.checked || options_.all_caches) {
    write_caches();
  }
  write_history();
  write_hints();
  return std::move(text_);
}

void TextReport::write_history() {
  const TargetInfo& target = report_.target;
  const bool running = target.state == TargetState::kRunning;
  if (report_.peak) {
    text_ += '\n' + peak_text(*report_.peak, report_.unchecked.bytes, report_.last_sign_ns, running,
                              {options_.width, options_.color, options_.source_root});
  }
  const std::string events =
      last_events_text(report_.events, kShownEvents, report_.last_sign_ns, running);
  text_ += events.empty() ? "" : "\n" + events;
}

void TextReport::write_checked_headline(const std::string& who) {
  const ObjectTotals& definite = report_.checked->definite;
  const ObjectTotals& indirect = report_.checked->indirect;
  if (definite.objects == 0 && indirect.objects == 0) {
    line("{}", painted("1;32", who + (report_.suppressed.empty()
                                          ? ": nothing is lost"
                                          : ": nothing is lost but what is suppressed")));
    return;
  }
  line("{}", painted("1;31",
                     fmt::format("{}: {} definitely lost, {}; {} indirectly, {}", who,
                                 counted(definite.objects, "object"), bytes_text(definite.bytes),
                                 counted(indirect.objects, "object"), bytes_text(indirect.bytes))));
}

void TextReport::write_headline() {
  const TargetInfo& target = report_.target;
  const std::string who = fmt::format("{} (pid {})", printable_utf8(target.comm), target.pid);
  if (report_.checked) {
    write_checked_headline(who);
    return;
  }
  if (report_.unchecked.objects == 0) {
    line("{}", painted("1;32", who + ": nothing is still allocated"));
    return;
  }
  line("{}", painted("1", fmt::format("{}: {} still allocated, {}", who,
                                      counted(report_.unchecked.objects, "object"),
                                      bytes_text(report_.unchecked.bytes))));
}

// What a parent saw; a file tells no more than whether the process said goodbye.
std::string end_text(const ChildEnd& end, bool orderly) {
  if (!end.killed) {
    return fmt::format("exited with {}{}", end.number,
                       orderly ? "" : ", without running exit handlers");
  }
  const char* name = sigabbrev_np(end.number);
  return name != nullptr ? fmt::format("killed by SIG{}", name)
                         : fmt::format("killed by signal {}", end.number);
}

std::string state_text(const LeakReport& report) {
  const TargetState state = report.target.state;
  if (report.end.has_value() && (state == TargetState::kExited || state == TargetState::kDied)) {
    return end_text(*report.end, state == TargetState::kExited);
  }
  if (state == TargetState::kDied) {
    return "died without an orderly end (SIGKILL, _exit, abort or a crash)";
  }
  return state == TargetState::kReplaced ? "was replaced by another program (exec)"
                                         : std::string(to_string(state));
}

std::string report_tracking_text(const TargetInfo& target) {
  switch (target.track_mode) {
    case abi::TrackMode::kAll:
      return "all: every count below is exact";
    case abi::TrackMode::kSampled:
      return fmt::format(
          "sampled, a stack every {} bytes: counts by cache are exact, counts by stack are "
          "estimates",
          target.sample_interval);
    case abi::TrackMode::kOff:
      break;
  }
  return "off: counts by cache are exact, stacks were not recorded";
}

void TextReport::write_process() {
  const TargetInfo& target = report_.target;
  const bool running = target.state == TargetState::kRunning;
  const std::optional<uint64_t> lifetime = lifetime_ns(target);
  if (!target.exe.empty()) {
    line("  program   {}", printable_utf8(target.exe));
  }
  line("  state     {}{}", state_text(report_),
       !lifetime.has_value() ? "" : (running ? " for " : " after ") + duration_text(*lifetime));
  if (target.start_realtime_ns != 0) {
    line("  started   {}", date_text(target.start_realtime_ns));
  }
  if (!running && lifetime.has_value()) {
    line("  ended     {}", date_text(target.start_realtime_ns + *lifetime));
  }
  line("  tracking  {}{}", report_tracking_text(target), switches_text(target.track_switches));
}

void TextReport::write_checked_meaning() {
  const CheckedTotals& checked = *report_.checked;
  text_ += '\n';
  line("{} still reachable, {}.", counted(checked.reachable.objects, "object"),
       bytes_text(checked.reachable.bytes));
  line("The process stood still for {:.1f} ms{}.",
       std::chrono::duration<double, std::milli>(checked.pause).count(),
       checked.in_place_reason.empty()
           ? ""
           : ", for as long as its memory was read: " + printable_utf8(checked.in_place_reason));
  if (checked.damaged != 0) {
    line("{} of its heap contradicted themselves and were left out.",
         counted(checked.damaged, "record"));
  }
}

void TextReport::write_meaning() {
  if (report_.checked) {
    write_checked_meaning();
    return;
  }
  if (report_.unchecked.objects == 0) {
    return;
  }
  text_ += '\n';
  const bool running = report_.target.state == TargetState::kRunning;
  line("These objects {}. Not every one is a leak: the program may still {} them.",
       running ? "are allocated now" : "were still allocated at the end",
       running ? "use" : "have been using");
  line("Reachability {}.", report_.reachability);
}

void TextReport::write_entries() {
  size_t listed = report_.leaks.size();
  while (report_.checked && !options_.reachable && listed > 0 &&
         report_.leaks[listed - 1].leak_class == "reachable") {
    --listed;
  }
  const size_t shown = options_.top == 0 ? listed : std::min(options_.top, listed);
  for (size_t i = 0; i < shown; ++i) {
    text_ += '\n';
    write_entry(report_.leaks[i]);
  }
  if (shown < listed) {
    ObjectTotals rest;
    for (size_t i = shown; i < listed; ++i) {
      rest.objects = saturating_sum(rest.objects, report_.leaks[i].objects);
      rest.bytes = saturating_sum(rest.bytes, report_.leaks[i].bytes);
    }
    const size_t hidden = listed - shown;
    text_ += '\n';
    line("... and {} more {} ({}, {}). To see them: slabscope {} {} --top 0", hidden,
         hidden == 1 ? "stack" : "stacks", counted(rest.objects, "object"), bytes_text(rest.bytes),
         is_alive() && report_.checked ? "leaks" : "report", target_hint());
  }
  if (report_.entries_below_min != 0) {
    text_ += '\n';
    line("Left out below --min-bytes {}: {} ({}, {}).", options_.min_bytes,
         counted(report_.entries_below_min, "stack"), counted(report_.below_min.objects, "object"),
         bytes_text(report_.below_min.bytes));
  }
}

void TextReport::write_entry(const LeakEntry& entry) {
  const std::string_view about = entry.estimated ? "about " : "";
  std::vector<std::string> details;
  if (entry.bytes >= kMegabyte) {
    details.push_back(human_bytes(entry.bytes));
  }
  if (entry.smallest != entry.largest) {
    details.push_back(fmt::format("{} to {} bytes each", entry.smallest, entry.largest));
  } else if (entry.smallest != 0 && entry.objects != 1) {
    details.push_back(fmt::format("{} bytes each", entry.smallest));
  }
  if (entry.estimated) {
    details.push_back("estimated from " + counted(entry.samples, "sample"));
  }
  std::string head =
      painted("1;33", fmt::format("{}{}, {}{}", about, counted(entry.objects, "object"), about,
                                  counted(entry.bytes, "byte")));
  if (!details.empty()) {
    head += fmt::format(" ({})", fmt::join(details, ", "));
  }
  head += entry.leak_class == "definite"    ? " definitely lost"
          : entry.leak_class == "indirect"  ? " indirectly lost"
          : entry.leak_class == "reachable" ? " still reachable"
                                            : " still allocated";
  if (!entry.caches.empty()) {
    constexpr size_t kShown = 3;
    std::string names = entry.caches.front();
    for (size_t i = 1; i < std::min(kShown, entry.caches.size()); ++i) {
      names += ", " + entry.caches[i];
    }
    if (entry.caches.size() > kShown) {
      names += fmt::format(" and {} more", entry.caches.size() - kShown);
    }
    head += ", in " + names;
  }
  if (entry.stack.empty()) {
    line("{}, whose stack was not recorded", head);
  } else {
    line("{}, allocated by:", head);
    text_ += stack_text(entry.stack, {options_.width, options_.color, options_.source_root});
  }
  write_ownership(entry);
}

// What goes with a definite leak; which one an indirect leak goes with.
void TextReport::write_ownership(const LeakEntry& entry) {
  if (entry.holds.objects != 0) {
    line("      and with it {}, {}, indirectly lost", counted(entry.holds.objects, "more object"),
         bytes_text(entry.holds.bytes));
  }
  constexpr size_t kShown = 2;
  std::vector<std::string> holders;
  for (const LeakOwner& owner : entry.owners) {
    if (holders.size() == kShown) {
      holders.push_back(counted(entry.owners.size() - kShown, "other leak"));
      break;
    }
    holders.push_back(owner.leak ? "the leak of " + site_text(report_.leaks[*owner.leak].stack,
                                                              {options_.width, options_.color,
                                                               options_.source_root})
                                 : "leaks below --min-bytes");
  }
  if (entry.in_cycles.objects != 0) {
    holders.emplace_back("objects that hold each other");
  }
  if (!holders.empty()) {
    line("      held by {}", fmt::join(holders, ", by "));
  }
}

// As LeakSanitizer writes it.
void TextReport::write_suppressions() {
  if (report_.suppressed.empty()) {
    return;
  }
  text_ += '\n';
  line("Suppressions used:\n  count      bytes template");
  for (const SuppressedLeaks& suppressed : report_.suppressed) {
    line("{:>7} {:>10} {}", suppressed.taken.objects, suppressed.taken.bytes,
         printable_utf8(suppressed.pattern));
  }
}

void TextReport::write_caches() {
  std::vector<const CacheRemainder*> rows;
  size_t column = 5;
  for (const CacheRemainder& row : report_.caches) {
    if (options_.all_caches || row.remaining().objects != 0) {
      rows.push_back(&row);
      column = std::max(column, display_width(row.cache.label()));
    }
  }
  if (rows.empty()) {
    return;
  }
  const bool all = options_.all_caches || options_.top == 0;
  const size_t shown = all ? rows.size() : std::min(rows.size(), kShownCaches);
  text_ += '\n';
  const std::string by_stack = report_.estimated ? "BY STACK (EST.)" : "BY STACK";
  line("{}", painted("1", fmt::format("{:<{}} {:>8} {:>12} {:>14} {:>14} {:>14}{}", "CACHE", column,
                                      "SIZE", "REMAINING", "BYTES", "ALLOCATED", "FREED",
                                      tracked() ? fmt::format(" {:>15}", by_stack) : "")));
  for (size_t i = 0; i < shown; ++i) {
    const CacheRemainder* row = rows[i];
    const Cache& cache = row->cache;
    std::string name = cache.label();
    name.append(column - display_width(name), ' ');
    const std::string size = cache.object_size == 0 ? "-" : std::to_string(cache.object_size);
    line("{} {:>8} {:>12} {:>14} {:>14} {:>14}{}", name, size, row->remaining().objects,
         row->remaining().bytes, cache.allocations, cache.frees,
         tracked() ? fmt::format(" {:>15}", row->explained.objects) : "");
  }
  if (shown < rows.size()) {
    ObjectTotals rest;
    for (size_t i = shown; i < rows.size(); ++i) {
      rest.objects = saturating_sum(rest.objects, rows[i]->remaining().objects);
      rest.bytes = saturating_sum(rest.bytes, rows[i]->remaining().bytes);
    }
    const size_t hidden = rows.size() - shown;
    line("... and {} more {} ({}, {}).", hidden, hidden == 1 ? "cache" : "caches",
         counted(rest.objects, "object"), bytes_text(rest.bytes));
  }
  write_explained();
}

void TextReport::write_explained() {
  if (!tracked() || report_.unchecked.objects == 0) {
    return;
  }
  const uint64_t all = report_.unchecked.objects;
  const uint64_t known = report_.explained.objects;
  if (report_.estimated) {
    line("Stacks are estimates: {} {} for about {}, of {} that {}.",
         counted(report_.samples, "sample"), report_.samples == 1 ? "stands" : "stand",
         counted(known, "object"), all, all == 1 ? "remains" : "remain");
  } else {
    const double share = 100 * static_cast<double>(std::min(known, all)) / static_cast<double>(all);
    line("Stacks are known for {} of {} ({}%), which asked for {}.", known, counted(all, "object"),
         known >= all ? "100" : fmt::format("{:.1f}", std::min(share, 99.9)),
         bytes_text(report_.explained.bytes));
  }
}

void TextReport::write_hints() {
  std::vector<std::string> hints;
  if (report_.checked) {
    if (report_.checked->lost_without_stack != 0) {
      hints.push_back(fmt::format(
          "{} lost without a stack on record: start the program with SLABSCOPE_TRACK=all to see "
          "who allocates them.",
          report_.checked->lost_without_stack == 1
              ? "1 object is"
              : fmt::format("{} objects are", report_.checked->lost_without_stack)));
    }
  } else if (report_.unchecked.objects != 0 && report_.target.track_mode != abi::TrackMode::kAll) {
    hints.push_back(
        report_.target.track_mode == abi::TrackMode::kOff
            ? "To see who allocated these objects, set SLABSCOPE_TRACK=all or use: "
              "slabscope run --track all -- COMMAND"
            : "For exact counts by stack, set SLABSCOPE_TRACK=all or use: slabscope run "
              "--track all -- COMMAND");
  }
  if (report_.dropped_stacks != 0 || report_.dropped_objects != 0) {
    hints.push_back(fmt::format("Incomplete: {} and {} were dropped because a table was full.",
                                counted(report_.dropped_stacks, "stack"),
                                counted(report_.dropped_objects, "tracked object")));
  }
  if (report_.dropped_modules != 0) {
    hints.push_back(fmt::format("{} not recorded, so some frames have no names.",
                                report_.dropped_modules == 1
                                    ? std::string("1 module was")
                                    : fmt::format("{} modules were", report_.dropped_modules)));
  }
  for (const std::string& module : first_of(report_.modules_without_lines)) {
    hints.push_back(fmt::format(
        "No line numbers for {}: build it with -g, or install its debug symbols.", module));
  }
  for (const std::string& module : first_of(report_.modules_missing)) {
    hints.push_back(
        fmt::format("No names for {}: its file is gone or was replaced; --debug-dir may lead to "
                    "its debug symbols.",
                    module));
  }
  if (!hints.empty()) {
    text_ += '\n';
  }
  for (const std::string& hint : hints) {
    line("{}", hint);
  }
}

}  // namespace

std::string report_text(const LeakReport& report, const ReportOptions& options) {
  return TextReport(report, options).write();
}

}  // namespace slabscope
