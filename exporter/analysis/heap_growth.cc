// SPDX-License-Identifier: MIT

#include "exporter/analysis/heap_growth.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>
#include <utility>

namespace slabscope {
namespace {

// JSON holds whole objects and bytes: less than this is no difference.
constexpr double kRounding = 0.75;

// Frames of both looks under one numbering.
class CommonFrames {
 public:
  std::vector<uint32_t> ids_of(const HeapProfile& profile) {
    std::vector<uint32_t> ids;
    ids.reserve(profile.frames.size());
    for (const SymbolFrame& frame : profile.frames) {
      ids.push_back(intern(frame));
    }
    return ids;
  }
  std::vector<SymbolFrame> take() { return std::move(frames_); }

 private:
  // What a reader can tell apart; the build-id may differ, after an upgrade between the looks.
  uint32_t intern(const SymbolFrame& frame) {
    std::string key = frame.function + '\0' + frame.file + '\0' + std::to_string(frame.line) +
                      '\0' + frame.module + '\0' + (frame.inlined ? "i" : "");
    if (frame.line == 0) {
      key += std::to_string(frame.offset);
    }
    const auto [entry, fresh] =
        known_.try_emplace(std::move(key), static_cast<uint32_t>(frames_.size()));
    if (fresh) {
      frames_.push_back(frame);
    }
    return entry->second;
  }

  std::vector<SymbolFrame> frames_;
  std::unordered_map<std::string, uint32_t> known_;
};

using Stacks = std::map<std::vector<uint32_t>, GrownStack>;

std::vector<uint32_t> renumbered(const std::vector<uint32_t>& stack,
                                 const std::vector<uint32_t>& ids) {
  std::vector<uint32_t> result;
  result.reserve(stack.size());
  for (const uint32_t frame : stack) {
    result.push_back(ids[frame]);
  }
  return result;
}

void add_now(const HeapProfile& profile, const std::vector<uint32_t>& ids, Stacks& stacks) {
  for (const HeapStack& stack : profile.stacks) {
    GrownStack& entry = stacks[renumbered(stack.stack, ids)];
    HeapStack& now = entry.now;
    const bool first = now.samples == 0;
    now.objects.add(stack.objects);
    now.bytes.add(stack.bytes);
    now.shared_objects.add(stack.shared_objects);
    now.shared_bytes.add(stack.shared_bytes);
    now.samples += stack.samples;
    now.estimated = now.estimated || stack.estimated;
    if (first) {
      now.caches = stack.caches;
      now.oldest_seconds = stack.oldest_seconds;
      now.newest_seconds = stack.newest_seconds;
      now.smallest = stack.smallest;
      now.largest = stack.largest;
    } else if (stack.oldest_seconds && now.oldest_seconds) {
      now.oldest_seconds = std::max(*now.oldest_seconds, *stack.oldest_seconds);
      now.newest_seconds =
          std::min(now.newest_seconds.value_or(0), stack.newest_seconds.value_or(0));
    }
    entry.estimated = entry.estimated || stack.estimated;
  }
}

void add_before(const HeapProfile& profile, const std::vector<uint32_t>& ids, Stacks& stacks) {
  for (const HeapStack& stack : profile.stacks) {
    GrownStack& entry = stacks[renumbered(stack.stack, ids)];
    entry.objects_before.add(stack.objects);
    entry.bytes_before.add(stack.bytes);
    entry.estimated = entry.estimated || stack.estimated;
  }
}

// Both looks hold the shared samples, with equal weights: their part is in both variances.
Estimate difference(const Estimate& now, const Estimate& before, const Estimate& shared) {
  return {now.value - before.value,
          std::max(0.0, now.variance + before.variance - 2 * shared.variance)};
}

bool precedes(const GrownStack& a, const GrownStack& b) {
  return a.bytes.value != b.bytes.value ? a.bytes.value > b.bytes.value
                                        : a.objects.value > b.objects.value;
}

}  // namespace

HeapGrowth heap_growth(const HeapProfile& before, const HeapProfile& now) {
  HeapGrowth growth;
  growth.before = before.target;
  growth.now = now.target;
  growth.seconds = std::max(0.0, now.time_seconds - before.time_seconds);
  growth.exact_bytes_before = before.exact_bytes;
  growth.exact_bytes_now = now.exact_bytes;
  CommonFrames frames;
  Stacks stacks;
  add_now(now, frames.ids_of(now), stacks);
  add_before(before, frames.ids_of(before), stacks);
  for (auto& [ids, entry] : stacks) {
    entry.objects = difference(entry.now.objects, entry.objects_before, entry.now.shared_objects);
    entry.bytes = difference(entry.now.bytes, entry.bytes_before, entry.now.shared_bytes);
    growth.objects.add(entry.objects);
    growth.bytes.add(entry.bytes);
    growth.estimated = growth.estimated || entry.estimated;
    if (std::abs(entry.objects.value) > kRounding || std::abs(entry.bytes.value) > kRounding) {
      entry.now.stack = ids;
      growth.stacks.push_back(std::move(entry));
    }
  }
  std::stable_sort(growth.stacks.begin(), growth.stacks.end(), precedes);
  growth.frames = frames.take();
  return growth;
}

}  // namespace slabscope
