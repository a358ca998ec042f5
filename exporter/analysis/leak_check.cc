// SPDX-License-Identifier: MIT

#include "exporter/analysis/leak_check.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "exporter/analysis/reachability.h"
#include "exporter/base/saturating.h"
#include "exporter/base/text.h"

namespace slabscope {
namespace {

constexpr uint32_t kNoRecord = UINT32_MAX;

// What the scope file knows of each slot: a number into Snapshot::objects.
std::vector<uint32_t> join_records(const HeapImage& heap, const Snapshot& snapshot) {
  std::vector<uint32_t> records(snapshot.objects.empty() ? 0 : heap.slots(), kNoRecord);
  for (uint32_t i = 0; i < snapshot.objects.size(); ++i) {
    const uint64_t address = snapshot.objects[i].address;
    const auto place = heap.find(address);
    if (place && heap.address_of(heap.runs()[place->run], place->slot) == address) {
      records[place->slot] = i;
    }
  }
  return records;
}

// Stacks whose allocation the loader itself asked for.
std::unordered_set<uint32_t> stacks_of_loader(const Snapshot& snapshot) {
  std::unordered_set<uint32_t> found;
  for (const Stack& stack : snapshot.stacks) {
    for (const uint64_t frame : stack.frames) {
      const auto module =
          std::find_if(snapshot.modules.begin(), snapshot.modules.end(), [&](const Module& m) {
            return frame >= m.start && frame < m.end && m.valid_for(stack.generation);
          });
      if (module == snapshot.modules.end()) {
        break;
      }
      const std::string_view name = base_name(module->path);
      if (name.starts_with("libslabscope")) {
        continue;
      }
      if (name.starts_with("ld-linux") || name.starts_with("ld.so") || name.starts_with("ld-2")) {
        found.insert(stack.handle);
      }
      break;
    }
  }
  return found;
}

size_t memory_budget() {
  constexpr size_t kLeast = size_t{64} << 20;
  const long pages = sysconf(_SC_AVPHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  const size_t free =
      pages > 0 && page > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page) : 0;
  return std::max(kLeast, free / 2);
}

class Checker {
 public:
  Checker(const ProcessSnapshot& memory, const Snapshot& snapshot, HeapImage heap)
      : memory_(memory),
        snapshot_(snapshot),
        heap_(std::move(heap)),
        records_(join_records(heap_, snapshot)) {}

  LeakCheck check(RootSet set) {
    LeakCheck result;
    Reachability::Sizes sizes(records_.size());
    for (size_t slot = 0; slot < records_.size(); ++slot) {
      sizes[slot] = records_[slot] == kNoRecord ? 0 : snapshot_.objects[records_[slot]].size + 1;
    }
    Reachability reachability(memory_.memory(), heap_, sizes, memory_budget());
    add_object_roots(reachability);
    const Roots roots = find_roots(memory_.memory(), memory_.layout(), memory_.mappings(),
                                   memory_.threads(), heap_, set);
    reachability.mark(roots);
    const Reachability::Lost lost = reachability.classify();
    for (const RootRange& range : roots.ranges) {
      result.root_bytes += range.end - range.begin;
    }
    result.damaged = heap_.damaged();
    group(result);
    add_lost(lost, result);
    return result;
  }

 private:
  const LiveObject* record_of(uint64_t slot) const {
    return slot < records_.size() && records_[slot] != kNoRecord
               ? &snapshot_.objects[records_[slot]]
               : nullptr;
  }
  bool is_own(const HeapRun& run) const {
    const auto cache = std::find_if(snapshot_.caches.begin(), snapshot_.caches.end(),
                                    [&](const Cache& c) { return c.id == run.cache; });
    return cache != snapshot_.caches.end() && cache->kind == abi::CacheKind::kOwn;
  }
  void add_object_roots(Reachability& reachability);
  LeakClass class_of(uint64_t slot) const;
  uint64_t size_of(const HeapRun& run, uint64_t slot) const {
    const LiveObject* record = record_of(slot);
    return record != nullptr ? record->size : run.object_size;
  }
  using Key = std::tuple<LeakClass, uint32_t, uint32_t>;  // class, stack, cache
  Key key_of(const HeapRun& run, uint64_t slot) const {
    const LiveObject* record = record_of(slot);
    return {class_of(slot), record != nullptr ? record->stack : 0, run.cache};
  }
  void group(LeakCheck& result);
  void add_lost(const Reachability::Lost& lost, LeakCheck& result);

  const ProcessSnapshot& memory_;
  const Snapshot& snapshot_;
  HeapImage heap_;
  std::vector<uint32_t> records_;
  std::map<Key, uint32_t> group_numbers_;
};

void Checker::add_object_roots(Reachability& reachability) {
  const std::unordered_set<uint32_t> of_loader = stacks_of_loader(snapshot_);
  const bool complete = snapshot_.counters.dropped_objects == 0;
  for (const HeapRun& run : heap_.runs()) {
    const bool own = is_own(run);
    for (uint64_t slot = run.first_slot; slot < run.first_slot + run.capacity; ++slot) {
      if (heap_.state(slot) != SlotState::kLive) {
        continue;
      }
      const LiveObject* record = record_of(slot);
      const bool freed_meanwhile = run.tracked && complete && record == nullptr;
      if (own || freed_meanwhile || (record != nullptr && of_loader.contains(record->stack))) {
        reachability.add_root(slot);
      }
    }
  }
}

LeakClass Checker::class_of(uint64_t slot) const {
  const SlotState state = heap_.state(slot);
  return state == SlotState::kLive       ? LeakClass::kDefinite
         : state == SlotState::kIndirect ? LeakClass::kIndirect
                                         : LeakClass::kReachable;
}

void Checker::group(LeakCheck& result) {
  std::map<Key, LeakGroup> groups;
  result.of_record.assign(snapshot_.objects.size(), LeakClass::kReachable);
  for (const HeapRun& run : heap_.runs()) {
    if (is_own(run)) {
      continue;
    }
    for (uint64_t slot = run.first_slot; slot < run.first_slot + run.capacity; ++slot) {
      if (heap_.state(slot) == SlotState::kFree) {
        continue;
      }
      const LiveObject* record = record_of(slot);
      const uint64_t size = size_of(run, slot);
      const uint64_t when = record != nullptr ? record->when_monotonic_ns : 0;
      const Key key = key_of(run, slot);
      LeakGroup& sum = groups[key];
      std::tie(sum.leak_class, sum.stack, sum.cache) = key;
      sum.smallest = sum.objects == 0 ? size : std::min(sum.smallest, size);
      sum.largest = std::max(sum.largest, size);
      sum.oldest_ns = sum.objects == 0 ? when : std::min(sum.oldest_ns, when);
      ++sum.objects;
      sum.bytes = saturating_sum(sum.bytes, size);
      if (record != nullptr) {
        result.of_record[records_[slot]] = sum.leak_class;
      }
    }
  }
  for (auto& [key, sum] : groups) {
    group_numbers_.emplace(key, static_cast<uint32_t>(result.groups.size()));
    result.groups.push_back(sum);
  }
}

void Checker::add_lost(const Reachability::Lost& lost, LeakCheck& result) {
  LostObjects& objects = result.lost;
  std::vector<uint32_t> numbers(heap_.slots(), kNoMark);
  for (const uint64_t slot : lost.slots) {
    const HeapRun& run = heap_.runs()[heap_.run_of(slot)];
    numbers[slot] = static_cast<uint32_t>(objects.size());
    objects.group.push_back(group_numbers_.at(key_of(run, slot)));
    objects.bytes.push_back(size_of(run, slot));
  }
  objects.first = lost.first;
  objects.targets.reserve(lost.targets.size());
  for (const uint64_t slot : lost.targets) {
    objects.targets.push_back(numbers[slot]);
  }
}

}  // namespace

Result<LeakCheck> check_leaks(const ProcessSnapshot& memory, const Snapshot& snapshot,
                              RootSet roots) {
  Result<HeapImage> heap = HeapImage::read(memory.memory(), memory.layout(), memory.mappings());
  if (!heap) {
    return heap.failure();
  }
  LeakCheck check = Checker(memory, snapshot, std::move(*heap)).check(roots);
  check.in_place_reason = memory.in_place_reason();
  return check;
}

}  // namespace slabscope
