// SPDX-License-Identifier: MIT

#include "exporter/output/event_text.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "exporter/output/json.h"
#include "exporter/output/phrases.h"

namespace slabscope {
namespace {

using abi::EventKind;

std::string tracking(uint64_t interval) {
  return interval == 0   ? "off"
         : interval == 1 ? "all"
                         : fmt::format("sampled, a stack every {} bytes", interval);
}

std::string cache_name(const HeapEvent& event) {
  return event.name.empty() ? fmt::format("cache {}", event.cache) : "cache " + event.name;
}

}  // namespace

std::string event_message(const HeapEvent& event) {
  switch (event.kind) {
    case EventKind::kCacheCreated:
      return cache_name(event) + " created";
    case EventKind::kDestroyRefused:
      return fmt::format("destroying {} refused: {} in use", cache_name(event),
                         counted(event.value, "object"));
    case EventKind::kCacheDestroyed:
      return cache_name(event) + " destroyed";
    case EventKind::kCacheDetached:
      return fmt::format("{} detached: {} in use", cache_name(event),
                         counted(event.value, "object"));
    case EventKind::kCacheReleased:
      return cache_name(event) + " released";
    case EventKind::kCacheShrunk:
      return fmt::format("{} shrunk: {} given back",
                         event.cache == 0 ? "all caches" : cache_name(event),
                         counted(event.value, "slab"));
    case EventKind::kTrackingSwitched:
      return fmt::format("tracking switched to {} (before: {})", tracking(event.value),
                         tracking(event.other_value));
    case EventKind::kOutOfMemory:
      return fmt::format("out of memory: {} were not to be had ({} so far)",
                         counted(event.value, "byte"), counted(event.other_value, "failure"));
    case EventKind::kThreadsFull:
      return fmt::format("no slot for a thread: {} share one so far",
                         counted(event.value, "thread"));
    case EventKind::kMemoryReleased:
      return fmt::format("{} given back to the kernel on request", bytes_text(event.value));
    case EventKind::kRequestRefused:
      return fmt::format("a request that makes no sense was refused (action {})", event.value);
    case EventKind::kMisuse:
      return fmt::format("misuse: {} {:#x}", event.name, event.value);
    case EventKind::kNone:
      break;
  }
  return "nothing";
}

std::string_view event_name(EventKind kind) {
  switch (kind) {
    case EventKind::kCacheCreated:
      return "cache_created";
    case EventKind::kDestroyRefused:
      return "destroy_refused";
    case EventKind::kCacheDestroyed:
      return "cache_destroyed";
    case EventKind::kCacheDetached:
      return "cache_detached";
    case EventKind::kCacheReleased:
      return "cache_released";
    case EventKind::kCacheShrunk:
      return "cache_shrunk";
    case EventKind::kTrackingSwitched:
      return "tracking_switched";
    case EventKind::kOutOfMemory:
      return "out_of_memory";
    case EventKind::kThreadsFull:
      return "threads_full";
    case EventKind::kMemoryReleased:
      return "memory_released";
    case EventKind::kRequestRefused:
      return "request_refused";
    case EventKind::kMisuse:
      return "misuse";
    case EventKind::kNone:
      break;
  }
  return "none";
}

nlohmann::ordered_json event_json(const HeapEvent& event) {
  nlohmann::ordered_json json = {{"number", event.number},
                                 {"event", event_name(event.kind)},
                                 {"message", event_message(event)},
                                 {"time_seconds", json_seconds(event.realtime_ns)},
                                 {"monotonic_seconds", json_seconds(event.monotonic_ns)},
                                 {"tid", event.tid}};
  if (event.cache != 0) {
    json["cache"] = event.name;
    json["cache_id"] = event.cache;
    json["generation"] = event.generation;
  }
  json["value"] = event.value;
  json["other_value"] = event.other_value;
  return json;
}

std::string last_events_text(const std::vector<HeapEvent>& events, size_t most,
                             uint64_t reference_monotonic_ns, bool running) {
  if (events.empty()) {
    return "";
  }
  std::string text = "Last events:\n";
  const size_t shown = most == 0 ? events.size() : std::min(most, events.size());
  for (size_t i = events.size() - shown; i < events.size(); ++i) {
    const HeapEvent& event = events[i];
    const uint64_t before = Cache::clamped_difference(reference_monotonic_ns, event.monotonic_ns);
    text += fmt::format(
        "  {}  {}{}\n", date_text(event.realtime_ns), event_message(event),
        reference_monotonic_ns == 0
            ? ""
            : fmt::format(", {} {}", duration_text(before), running ? "ago" : "before the end"));
  }
  return text;
}

}  // namespace slabscope
