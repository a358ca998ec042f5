// SPDX-License-Identifier: MIT

#include "exporter/output/peak_text.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

#include "exporter/base/saturating.h"
#include "exporter/base/text.h"
#include "exporter/output/json.h"
#include "exporter/output/phrases.h"

namespace slabscope {
namespace {

constexpr size_t kShownPeakCaches = 5;

std::vector<SymbolFrame> frames_of(const HeapStack& stack, const HeapProfile& profile) {
  std::vector<SymbolFrame> frames;
  for (const uint32_t id : stack.stack) {
    frames.push_back(profile.frames[id]);
  }
  return frames;
}

// Only the stacks that held most.
HeapGroups biggest(const HeapGroups& all, size_t count) {
  std::vector<std::pair<uint32_t, HeapGroup>> groups(all.groups().begin(), all.groups().end());
  const size_t kept = std::min(count, groups.size());
  std::partial_sort(
      groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(kept), groups.end(),
      [](const auto& a, const auto& b) { return a.second.bytes.value > b.second.bytes.value; });
  groups.resize(kept);
  return HeapGroups(std::map<uint32_t, HeapGroup>(groups.begin(), groups.end()));
}

}  // namespace

ReportPeak report_peak(HeapPeak peak, Symbolizer& symbolizer, size_t stacks) {
  ReportPeak report;
  report.monotonic_ns = peak.monotonic_ns;
  report.realtime_ns = peak.realtime_ns;
  report.objects = peak.objects;
  report.bytes = peak.bytes;
  report.caches = peak.reading.snapshot.caches;
  std::stable_sort(report.caches.begin(), report.caches.end(), [](const Cache& a, const Cache& b) {
    return a.active_bytes() > b.active_bytes();
  });
  // Stacks that look the same become one: more are looked at than shown.
  constexpr size_t kLookedAt = 8;
  peak.reading.groups = biggest(peak.reading.groups, stacks * kLookedAt);
  report.profile = build_heap_profile(std::move(peak.reading), symbolizer);
  report.profile.stacks.resize(std::min(stacks, report.profile.stacks.size()));
  return report;
}

std::string peak_moment(uint64_t monotonic_ns, uint64_t realtime_ns, uint64_t reference_ns,
                        bool running) {
  const std::string when = date_text(realtime_ns);
  return reference_ns == 0
             ? when
             : fmt::format("{}, {} {}", when,
                           duration_text(Cache::clamped_difference(reference_ns, monotonic_ns)),
                           running ? "ago" : "before the end");
}

std::string peak_text(const ReportPeak& peak, uint64_t bytes_now, uint64_t reference_ns,
                      bool running, const StackStyle& style) {
  if (bytes_now >= peak.bytes) {
    return fmt::format("The most memory was in use {}.\n", running ? "just now" : "at the end");
  }
  std::string text = fmt::format(
      "At the peak of {} in {}, {}:\n", bytes_text(peak.bytes), counted(peak.objects, "object"),
      peak_moment(peak.monotonic_ns, peak.realtime_ns, reference_ns, running));
  for (size_t i = 0; i < std::min(kShownPeakCaches, peak.caches.size()); ++i) {
    const Cache& cache = peak.caches[i];
    text += fmt::format("  {}: {}, {}\n", cache.name, counted(cache.active_objects(), "object"),
                        bytes_text(cache.active_bytes()));
  }
  if (peak.caches.size() > kShownPeakCaches) {
    text += fmt::format("  and {} more\n", counted(peak.caches.size() - kShownPeakCaches, "cache"));
  }
  for (const HeapStack& stack : peak.profile.stacks) {
    const char* about = stack.estimated ? "about " : "";
    text += fmt::format("{}{}, {}{}, allocated by:\n", about,
                        counted(whole(stack.objects.value), "object"), about,
                        bytes_text(whole(stack.bytes.value)));
    text += stack_text(frames_of(stack, peak.profile), style);
  }
  return text;
}

nlohmann::ordered_json peak_json(const ReportPeak& peak, uint64_t reference_ns) {
  using Json = nlohmann::ordered_json;
  Json caches = Json::array();
  for (const Cache& cache : peak.caches) {
    caches.push_back({{"name", cache.name},
                      {"active_objects", cache.active_objects()},
                      {"active_bytes", cache.active_bytes()}});
  }
  Json stacks = Json::array();
  for (const HeapStack& stack : peak.profile.stacks) {
    Json frames = Json::array();
    for (const SymbolFrame& frame : frames_of(stack, peak.profile)) {
      frames.push_back(frame_json(frame));
    }
    stacks.push_back({{"objects", whole(stack.objects.value)},
                      {"bytes", whole(stack.bytes.value)},
                      {"estimated", stack.estimated},
                      {"samples", stack.samples},
                      {"stack", std::move(frames)}});
  }
  const Json before =
      reference_ns == 0
          ? Json()
          : Json(json_seconds(Cache::clamped_difference(reference_ns, peak.monotonic_ns)));
  return {{"time_seconds", json_seconds(peak.realtime_ns)},
          {"seconds_before_end", before},
          {"objects", peak.objects},
          {"bytes", peak.bytes},
          {"caches", std::move(caches)},
          {"stacks", std::move(stacks)}};
}

}  // namespace slabscope
