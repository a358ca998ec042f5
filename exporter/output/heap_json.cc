// SPDX-License-Identifier: MIT

#include "exporter/output/heap_json.h"

#include <nlohmann/json.hpp>

#include <cmath>

#include "exporter/output/json.h"

namespace slabscope {
namespace {

using Json = nlohmann::ordered_json;

int64_t signed_whole(double value) {
  constexpr double kLargest = 9.2e18;
  return std::llround(std::max(-kLargest, std::min(value, kLargest)));
}

Json seconds_json(const std::optional<double>& seconds) {
  return seconds.has_value() ? Json(std::round(*seconds * 1000) / 1000) : Json();
}

Json amount_json(const Estimate& objects, const Estimate& bytes) {
  return {{"objects", signed_whole(objects.value)},
          {"bytes", signed_whole(bytes.value)},
          {"objects_stderr", signed_whole(objects.standard_error())},
          {"bytes_stderr", signed_whole(bytes.standard_error())}};
}

Json frames_json(const std::vector<uint32_t>& stack, const std::vector<SymbolFrame>& frames) {
  Json json = Json::array();
  for (const uint32_t id : stack) {
    json.push_back(frame_json(frames[id]));
  }
  return json;
}

Json stack_json(const HeapStack& stack, const std::vector<SymbolFrame>& frames) {
  Json json = amount_json(stack.objects, stack.bytes);
  json["estimated"] = stack.estimated;
  json["samples"] = stack.samples;
  json["smallest"] = stack.smallest;
  json["largest"] = stack.largest;
  json["oldest_seconds"] = seconds_json(stack.oldest_seconds);
  json["newest_seconds"] = seconds_json(stack.newest_seconds);
  json["caches"] = stack.caches;
  json["stack"] = frames_json(stack.stack, frames);
  return json;
}

Json grown_json(const GrownStack& entry, const std::vector<SymbolFrame>& frames) {
  Json json = amount_json(entry.objects, entry.bytes);
  json["certain"] = entry.certain();
  json["estimated"] = entry.estimated;
  json["before"] = {{"objects", signed_whole(entry.objects_before.value)},
                    {"bytes", signed_whole(entry.bytes_before.value)}};
  json["now"] = {{"objects", signed_whole(entry.now.objects.value)},
                 {"bytes", signed_whole(entry.now.bytes.value)},
                 {"samples", entry.now.samples}};
  json["oldest_seconds"] = seconds_json(entry.now.oldest_seconds);
  json["newest_seconds"] = seconds_json(entry.now.newest_seconds);
  json["caches"] = entry.now.caches;
  json["stack"] = frames_json(entry.now.stack, frames);
  return json;
}

// Appends "stacks" to an object's text, a line each: a tree of all frames of a large program would
// take gigabytes.
class Lines {
 public:
  explicit Lines(const Json& head) : text_(dump(head)) {
    text_.resize(text_.rfind('}'));
    text_.resize(text_.find_last_not_of(" \n") + 1);
    text_ += ",\n  \"stacks\": [";
  }
  void add(const Json& item) {
    text_ += empty_ ? "\n    " : ",\n    ";
    text_ += item.dump(-1, ' ', false, Json::error_handler_t::replace);
    empty_ = false;
  }
  std::string finish() && {
    text_ += empty_ ? "]\n}\n" : "\n  ]\n}\n";
    return std::move(text_);
  }

 private:
  std::string text_;
  bool empty_ = true;
};

struct LeftOut {
  uint64_t stacks = 0;
  Estimate objects;
  Estimate bytes;
};

Json left_out_json(const LeftOut& left_out) {
  return {{"stacks", left_out.stacks},
          {"objects", signed_whole(left_out.objects.value)},
          {"bytes", signed_whole(left_out.bytes.value)}};
}

}  // namespace

std::string heap_json(const HeapProfile& profile, uint64_t min_bytes) {
  LeftOut left_out;
  const auto listed = [&](const HeapStack& stack) {
    return stack.samples != 0 && stack.bytes.value >= static_cast<double>(min_bytes);
  };
  for (const HeapStack& stack : profile.stacks) {
    if (stack.samples != 0 && !listed(stack)) {
      ++left_out.stacks;
      left_out.objects.add(stack.objects);
      left_out.bytes.add(stack.bytes);
    }
  }
  const HeapGroup sum = sum_of(profile);
  Lines lines(
      {{"schema", 1},
       {"target", target_json(profile.target)},
       {"time_seconds", profile.time_seconds},
       {"estimated", profile.estimated},
       {"samples", profile.samples},
       {"totals",
        {{"exact", {{"objects", profile.exact_objects}, {"bytes", profile.exact_bytes}}},
         {"by_stack", amount_json(sum.objects, sum.bytes)}}},
       {"dropped", {{"objects", profile.dropped_objects}, {"stacks", profile.dropped_stacks}}},
       {"left_out", left_out_json(left_out)}});
  for (const HeapStack& stack : profile.stacks) {
    if (listed(stack)) {
      lines.add(stack_json(stack, profile.frames));
    }
  }
  return std::move(lines).finish();
}

std::string growth_json(const HeapGrowth& growth, uint64_t min_bytes) {
  LeftOut left_out;
  const auto listed = [&](const GrownStack& entry) {
    return std::abs(entry.bytes.value) >= static_cast<double>(min_bytes);
  };
  for (const GrownStack& entry : growth.stacks) {
    if (!listed(entry)) {
      ++left_out.stacks;
      left_out.objects.add(entry.objects);
      left_out.bytes.add(entry.bytes);
    }
  }
  Lines lines(
      {{"schema", 1},
       {"target", target_json(growth.now)},
       {"before", target_json(growth.before)},
       {"seconds", std::round(growth.seconds * 1000) / 1000},
       {"estimated", growth.estimated},
       {"totals",
        {{"exact",
          {{"bytes_before", growth.exact_bytes_before}, {"bytes_now", growth.exact_bytes_now}}},
         {"by_stack", amount_json(growth.objects, growth.bytes)}}},
       {"left_out", left_out_json(left_out)}});
  for (const GrownStack& entry : growth.stacks) {
    if (listed(entry)) {
      lines.add(grown_json(entry, growth.frames));
    }
  }
  return std::move(lines).finish();
}

}  // namespace slabscope
