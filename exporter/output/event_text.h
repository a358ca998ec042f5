// SPDX-License-Identifier: MIT
//
// event_text: events of a heap, for people and for programs (docs/events.md).

#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

#include "exporter/source/event_reader.h"

namespace slabscope {

// What happened, without time and process: "cache conns created".
[[nodiscard]] std::string event_message(const HeapEvent& event);
// The kind as --json prints it: "cache_created".
[[nodiscard]] std::string_view event_name(abi::EventKind kind);
[[nodiscard]] nlohmann::ordered_json event_json(const HeapEvent& event);

// The last `most` of them, as a paragraph of a report: when before the end (or now), and what.
// Empty without events.
[[nodiscard]] std::string last_events_text(const std::vector<HeapEvent>& events, size_t most,
                                           uint64_t reference_monotonic_ns, bool running);

}  // namespace slabscope
