// SPDX-License-Identifier: MIT

#include "exporter/source/event_reader.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "exporter/base/text.h"

namespace slabscope {
namespace {

constexpr uint64_t kUsedOffset = offsetof(abi::Header, events) + offsetof(abi::Section, used);

std::optional<HeapEvent> read_event(const ScopeReader& reader, uint64_t offset, uint64_t number) {
  abi::EventRecord first{};
  abi::EventRecord second{};
  if (reader.read(offset, &first, sizeof(first)) < sizeof(first) ||
      reader.read(offset, &second, sizeof(second)) < sizeof(second) || first.sequence != number ||
      std::memcmp(&first, &second, sizeof(first)) != 0 || first.kind > abi::kLastEventKind) {
    return std::nullopt;
  }
  HeapEvent event;
  event.number = number;
  event.kind = static_cast<abi::EventKind>(first.kind);
  event.tid = first.tid;
  event.monotonic_ns = first.monotonic_ns;
  event.realtime_ns = first.realtime_ns;
  event.cache = first.cache;
  event.generation = first.generation;
  event.value = first.value;
  event.other_value = first.other_value;
  event.name =
      printable_utf8(std::string_view(first.name, strnlen(first.name, sizeof(first.name))));
  return event;
}

}  // namespace

Result<EventReader> EventReader::open(const std::string& path) {
  Result<OpenScope> scope = open_scope(path);
  if (!scope) {
    return scope.failure();
  }
  return EventReader(std::move(*scope));
}

EventReader::Batch EventReader::next() {
  Batch batch;
  uint64_t newest = 0;
  const abi::Section& section = scope_.header.events;
  const uint64_t limit = std::min<uint64_t>(section.limit, abi::kMaxEvents);
  if (scope_.reader.read(kUsedOffset, &newest, sizeof(newest)) < sizeof(newest) || limit == 0 ||
      newest <= read_) {
    return batch;
  }
  uint64_t number = read_ + 1;
  if (newest - read_ > limit) {
    number = newest - limit + 1;
    batch.lost += first_ ? 0 : number - read_ - 1;
  }
  for (; number <= newest && number != 0; ++number) {
    const uint64_t offset = section.offset + (number - 1) % limit * sizeof(abi::EventRecord);
    if (std::optional<HeapEvent> event = read_event(scope_.reader, offset, number)) {
      batch.events.push_back(std::move(*event));
    } else {
      ++batch.lost;
    }
  }
  read_ = newest;
  first_ = false;
  return batch;
}

}  // namespace slabscope
