// SPDX-License-Identifier: MIT

#include "exporter/commands/accumulation.h"

#include <set>
#include <string_view>
#include <utility>

#include "exporter/analysis/heap_groups.h"
#include "exporter/base/clock.h"
#include "exporter/base/saturating.h"

namespace slabscope {
namespace {

// An object is the same if it lies where it lay and was not allocated anew.
using Identity = std::pair<uint64_t, uint64_t>;

Identity identity_of(const LiveObject& object) {
  return {object.address, object.when_monotonic_ns};
}

bool is_older(const LiveObject& object, const Snapshot& at, uint64_t age_seconds) {
  return saturating_sum(object.when_monotonic_ns, age_seconds * kSecondNs) <=
         at.target.read_monotonic_ns;
}

// Without its objects, which are in `groups`.
HeapReading reading_of(const Snapshot& snapshot, HeapGroups groups) {
  Snapshot plain;
  plain.target = snapshot.target;
  plain.counters = snapshot.counters;
  plain.caches = snapshot.caches;
  plain.modules = snapshot.modules;
  plain.stacks = snapshot.stacks;
  return {std::move(plain), std::move(groups)};
}

}  // namespace

std::string check_duration(const std::string& text) {
  constexpr size_t kDigits = 6;
  const size_t digits = text.find_first_not_of("0123456789");
  const std::string_view unit =
      digits == text.npos ? std::string_view() : std::string_view(text).substr(digits);
  const size_t count = digits == text.npos ? text.size() : digits;
  const bool known = unit.empty() || unit == "s" || unit == "m" || unit == "h";
  return known && count != 0 && count <= kDigits && duration_seconds(text) != 0
             ? ""
             : "'" + text + "' is no duration; write 90s, 5m or 2h";
}

uint64_t duration_seconds(const std::string& text) {
  uint64_t number = 0;
  for (const char c : text) {
    switch (c) {
      case 's':
        return number;
      case 'm':
        return number * 60;
      case 'h':
        return number * 3600;
      default:
        number = number * 10 + static_cast<uint64_t>(c - '0');
    }
  }
  return number;
}

HeapGrowth accumulation(const Snapshot& first, const Snapshot& second, const LeakCheck& check,
                        uint64_t age_seconds, Symbolizer& symbolizer, const HeapOptions& options) {
  std::set<Identity> lost;
  for (size_t i = 0; i < check.of_record.size(); ++i) {
    if (check.of_record[i] != LeakClass::kReachable) {
      lost.insert(identity_of(second.objects[i]));
    }
  }
  const auto old_and_kept = [&](const Snapshot& at, HeapGroups& groups) {
    for (const LiveObject& object : at.objects) {
      if (is_older(object, at, age_seconds) && !lost.contains(identity_of(object))) {
        groups.add(object);
      }
    }
  };
  HeapGroups then(HeapGroups::Remember::kYes);
  old_and_kept(first, then);
  HeapGroups now(HeapGroups::Remember::kNo, &then);
  old_and_kept(second, now);
  const HeapProfile after =
      build_heap_profile(reading_of(second, std::move(now)), symbolizer, options);
  HeapGrowth growth = heap_growth(
      build_heap_profile(reading_of(first, std::move(then)), symbolizer, options), after);
  std::erase_if(growth.stacks, [](const GrownStack& stack) { return stack.bytes.value <= 0; });
  growth.objects = {};
  growth.bytes = {};
  for (const GrownStack& stack : growth.stacks) {
    growth.objects.add(stack.objects);
    growth.bytes.add(stack.bytes);
  }
  return growth;
}

}  // namespace slabscope
