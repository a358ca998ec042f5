// SPDX-License-Identifier: MIT

#include "exporter/output/heap_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

#include "exporter/base/clock.h"
#include "exporter/base/saturating.h"
#include "exporter/base/text.h"
#include "exporter/output/phrases.h"
#include "exporter/output/stack_text.h"

namespace slabscope {
namespace {

// "about 1573014 bytes ±58% (1.5M)"; exact amounts without "about" and error.
std::string amount_text(const Estimate& amount, bool estimated, std::string_view noun) {
  std::string text = counted(whole(amount.value), noun);
  if (!estimated) {
    return text;
  }
  constexpr double kReadable = 200;  // percent; above it the error itself says more
  const double error = amount.standard_error();
  const double percent = amount.value > 0 ? 100 * error / amount.value : 0;
  const std::string spread = percent < 0.5          ? "<1%"
                             : percent <= kReadable ? fmt::format("{:.0f}%", percent)
                                                    : std::to_string(whole(error));
  return "about " + text + " ±" + spread;
}

std::string bytes_amount(const Estimate& bytes, bool estimated) {
  constexpr double kLong = 10240;
  std::string text = amount_text(bytes, estimated, "byte");
  return bytes.value < kLong ? text : text + fmt::format(" ({})", human_bytes(whole(bytes.value)));
}

std::string seconds_text(double seconds) {
  return seconds < 1 ? "<1s" : human_duration(static_cast<uint64_t>(seconds));
}

std::string age_text(const std::optional<double>& oldest, const std::optional<double>& newest) {
  if (!oldest || !newest) {
    return "";
  }
  const std::string from = seconds_text(*newest);
  const std::string to = seconds_text(*oldest);
  return from == to ? from + " old" : from + " to " + to + " old";
}

std::string size_text(const HeapStack& stack) {
  if (stack.smallest != stack.largest) {
    return fmt::format("{} to {} bytes each", stack.smallest, stack.largest);
  }
  return stack.smallest != 0 && stack.objects.value > 1.5
             ? fmt::format("{} bytes each", stack.smallest)
             : "";
}

std::string caches_text(const std::vector<std::string>& caches) {
  constexpr size_t kShown = 3;
  if (caches.empty()) {
    return "";
  }
  std::string names = "in " + caches.front();
  for (size_t i = 1; i < std::min(kShown, caches.size()); ++i) {
    names += ", " + caches[i];
  }
  return caches.size() <= kShown ? names
                                 : names + fmt::format(" and {} more", caches.size() - kShown);
}

std::vector<SymbolFrame> frames_of(const std::vector<uint32_t>& stack,
                                   const std::vector<SymbolFrame>& frames) {
  std::vector<SymbolFrame> result;
  result.reserve(stack.size());
  for (const uint32_t id : stack) {
    result.push_back(frames[id]);
  }
  return result;
}

std::string join(std::vector<std::string> parts) {
  std::erase(parts, "");
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string state_text(const TargetInfo& target) {
  const std::optional<uint64_t> lifetime = lifetime_ns(target);
  const bool running = target.state == TargetState::kRunning;
  return std::string(to_string(target.state)) +
         (lifetime ? (running ? " for " : " after ") + duration_text(*lifetime) : "");
}

std::string heap_tracking_text(const TargetInfo& target) {
  switch (target.track_mode) {
    case abi::TrackMode::kAll:
      return "all: every amount is exact";
    case abi::TrackMode::kSampled:
      return fmt::format(
          "sampled, a stack every {} bytes: amounts by stack are estimates, "
          "± one standard error",
          target.sample_interval);
    case abi::TrackMode::kOff:
      break;
  }
  return "off: stacks are not recorded";
}

// JSON holds the start in microseconds.
bool same_process(const TargetInfo& a, const TargetInfo& b) {
  constexpr uint64_t kMillisecondNs = 1'000'000;
  const uint64_t apart = std::max(a.start_realtime_ns, b.start_realtime_ns) -
                         std::min(a.start_realtime_ns, b.start_realtime_ns);
  return a.pid == b.pid && apart < kMillisecondNs;
}

class HeapText {
 public:
  explicit HeapText(const ReportOptions& options) : options_(options) {}

  std::string profile(const HeapProfile& profile);
  std::string growth(const HeapGrowth& growth);
  std::string accumulated(const HeapGrowth& growth, uint64_t age_seconds);

 private:
  template <typename... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  std::string painted(std::string_view code, std::string text) const {
    return options_.color ? fmt::format("\033[{}m{}\033[0m", code, text) : text;
  }
  size_t shown(size_t all) const { return options_.top == 0 ? all : std::min(options_.top, all); }
  void stack(const std::vector<uint32_t>& ids, const std::vector<SymbolFrame>& frames);
  void entry(const HeapStack& stack, const HeapProfile& profile, double all_bytes);
  void grown(const GrownStack& stack, const HeapGrowth& growth);
  void stacks(const HeapProfile& profile);
  void hints(const HeapProfile& profile);
  void movement(const HeapGrowth& growth);

  const ReportOptions& options_;
  std::string text_;
};

void HeapText::stack(const std::vector<uint32_t>& ids, const std::vector<SymbolFrame>& frames) {
  if (ids.empty()) {
    line("      (the stack was not recorded)");
    return;
  }
  text_ +=
      stack_text(frames_of(ids, frames), {options_.width, options_.color, options_.source_root});
}

void HeapText::entry(const HeapStack& live, const HeapProfile& profile, double all_bytes) {
  std::string head = bytes_amount(live.bytes, live.estimated) + " in " +
                     amount_text(live.objects, live.estimated, "object");
  const std::string samples = live.estimated ? counted(live.samples, "sample") : "";
  const std::string share =
      all_bytes > 0 ? fmt::format("{:.1f}% of it", 100 * live.bytes.value / all_bytes) : "";
  line("{}: {}", painted("1;33", head),
       join({samples, share, size_text(live), caches_text(live.caches),
             age_text(live.oldest_seconds, live.newest_seconds)}));
  stack(live.stack, profile.frames);
}

void HeapText::stacks(const HeapProfile& profile) {
  std::vector<const HeapStack*> listed;
  HeapGroup hidden;
  uint64_t left_out = 0;
  HeapGroup small;
  for (const HeapStack& live : profile.stacks) {
    if (live.samples == 0) {
      continue;
    }
    const bool big = live.bytes.value >= static_cast<double>(options_.min_bytes);
    if (!big) {
      ++left_out;
      small.bytes.add(live.bytes);
      small.objects.add(live.objects);
    } else {
      listed.push_back(&live);
    }
  }
  const double all_bytes = sum_of(profile).bytes.value;
  for (size_t i = 0; i < listed.size(); ++i) {
    if (i < shown(listed.size())) {
      text_ += '\n';
      entry(*listed[i], profile, all_bytes);
    } else {
      hidden.bytes.add(listed[i]->bytes);
      hidden.objects.add(listed[i]->objects);
    }
  }
  if (const size_t more = listed.size() - shown(listed.size()); more != 0) {
    text_ += '\n';
    line("... and {} ({} in {}). To see them: slabscope heap {} --top 0",
         counted(more, "more stack"), bytes_amount(hidden.bytes, profile.estimated),
         amount_text(hidden.objects, profile.estimated, "object"),
         options_.target_hint.empty() ? "TARGET" : options_.target_hint);
  }
  if (left_out != 0) {
    text_ += '\n';
    line("Left out below --min-bytes {}: {} ({} in {}).", options_.min_bytes,
         counted(left_out, "stack"), bytes_amount(small.bytes, profile.estimated),
         amount_text(small.objects, profile.estimated, "object"));
  }
}

void HeapText::hints(const HeapProfile& profile) {
  if (profile.target.track_mode == abi::TrackMode::kOff && profile.samples == 0) {
    line(
        "\nTo see who allocated it, set SLABSCOPE_TRACK=sampled (or all) when the program starts.");
  } else if (profile.samples == 0 && profile.exact_objects != 0) {
    line(
        "\nNo live object was sampled. SLABSCOPE_TRACK=all tracks each one, sampled:BYTES more of "
        "them.");
  }
  if (profile.dropped_objects != 0 || profile.dropped_stacks != 0) {
    line("\nIncomplete: {} and {} were dropped because a table was full.",
         counted(profile.dropped_stacks, "stack"),
         counted(profile.dropped_objects, "tracked object"));
  }
}

std::string HeapText::profile(const HeapProfile& profile) {
  const TargetInfo& target = profile.target;
  line("{}", painted("1", fmt::format("{} (pid {}): {} in {} live", printable_utf8(target.comm),
                                      target.pid, bytes_text(profile.exact_bytes),
                                      counted(profile.exact_objects, "object"))));
  line("  state     {}", state_text(target));
  line("  tracking  {}{}", heap_tracking_text(target), switches_text(target.track_switches));
  const HeapGroup sum = sum_of(profile);
  if (sum.samples != 0) {
    line("  by stack  {} asked for, in {}{}", bytes_amount(sum.bytes, profile.estimated),
         amount_text(sum.objects, profile.estimated, "object"),
         profile.estimated ? ", from " + counted(sum.samples, "sample") : "");
  }
  stacks(profile);
  hints(profile);
  return std::move(text_);
}

// "+480000 bytes (468K)", "-32 bytes", "about +480000 bytes ±12% (468K)".
std::string change_text(const Estimate& change, bool estimated, std::string_view noun) {
  const Estimate size = {std::abs(change.value), change.variance};
  std::string text =
      noun == "byte" ? bytes_amount(size, estimated) : amount_text(size, estimated, noun);
  text.insert(estimated ? std::string_view("about ").size() : 0, change.value < 0 ? "-" : "+");
  return text;
}

void HeapText::grown(const GrownStack& entry, const HeapGrowth& growth) {
  const std::string head = change_text(entry.bytes, entry.estimated, "byte") + ", " +
                           change_text(entry.objects, entry.estimated, "object");
  const std::string now = fmt::format("now {}{} in {}", entry.estimated ? "about " : "",
                                      bytes_amount(entry.now.bytes, false),
                                      counted(whole(entry.now.objects.value), "object"));
  const std::string doubt =
      entry.estimated && !entry.certain() ? "within the error of the estimate" : "";
  line("{}, still live, growing: {}", painted("1;33", head),
       join({now, caches_text(entry.now.caches),
             age_text(entry.now.oldest_seconds, entry.now.newest_seconds), doubt}));
  stack(entry.now.stack, growth.frames);
}

// The stacks that grew, and one line for those that shrank.
void HeapText::movement(const HeapGrowth& growth) {
  std::vector<const GrownStack*> grew;
  uint64_t small = 0;
  uint64_t shrank = 0;
  Estimate less;
  for (const GrownStack& entry : growth.stacks) {
    if (entry.bytes.value < 0) {
      ++shrank;
      less.add(entry.bytes);
    } else if (entry.bytes.value < static_cast<double>(options_.min_bytes)) {
      ++small;
    } else {
      grew.push_back(&entry);
    }
  }
  for (size_t i = 0; i < shown(grew.size()); ++i) {
    text_ += '\n';
    grown(*grew[i], growth);
  }
  text_ += '\n';
  if (grew.empty()) {
    line("No stack holds more than before{}.",
         options_.min_bytes == 0 ? "" : fmt::format(" by {} bytes", options_.min_bytes));
  }
  if (const size_t more = grew.size() - shown(grew.size()); more != 0) {
    line("... and {} that grew; --top 0 shows them.", counted(more, "more stack"));
  }
  if (small != 0) {
    line("Left out below --min-bytes {}: {} that grew.", options_.min_bytes,
         counted(small, "stack"));
  }
  if (shrank != 0) {
    line("{} shrank, by {} together.", counted(shrank, "stack"),
         bytes_amount({-less.value, less.variance}, growth.estimated));
  }
}

std::string HeapText::growth(const HeapGrowth& growth) {
  const Estimate& bytes = growth.bytes;
  line("{}", painted("1", fmt::format("{} (pid {}): {} in {}", printable_utf8(growth.now.comm),
                                      growth.now.pid, change_text(bytes, growth.estimated, "byte"),
                                      change_text(growth.objects, growth.estimated, "object"))));
  if (!same_process(growth.before, growth.now)) {
    line("  before    {} (pid {}), another process", printable_utf8(growth.before.comm),
         growth.before.pid);
  }
  line("  between   {}", duration_text(static_cast<uint64_t>(std::min(growth.seconds, 1e9) * 1e9)));
  line("  caches    {} before, {} now (exact, in slots' sizes)",
       bytes_text(growth.exact_bytes_before), bytes_text(growth.exact_bytes_now));
  line("  tracking  {}", heap_tracking_text(growth.now));
  line("\nWhat grew is still live: the program may need it. `slabscope leaks` tells what is lost.");
  movement(growth);
  return std::move(text_);
}

std::string HeapText::accumulated(const HeapGrowth& growth, uint64_t age_seconds) {
  line("{}", painted("1", fmt::format("Still live, growing: stacks that hold more objects older "
                                      "than {} than {} before",
                                      duration_text(age_seconds * kSecondNs),
                                      duration_text(static_cast<uint64_t>(
                                          std::min(growth.seconds, 1e9) * 1e9)))));
  line("The program can still reach them, so they are no leak; it may have forgotten them.");
  movement(growth);
  return std::move(text_);
}

}  // namespace

std::string accumulated_text(const HeapGrowth& growth, uint64_t age_seconds,
                             const ReportOptions& options) {
  return HeapText(options).accumulated(growth, age_seconds);
}

std::string heap_text(const HeapProfile& profile, const ReportOptions& options) {
  return HeapText(options).profile(profile);
}

std::string growth_text(const HeapGrowth& growth, const ReportOptions& options) {
  return HeapText(options).growth(growth);
}

}  // namespace slabscope
