// SPDX-License-Identifier: MIT

#include "exporter/analysis/reachability.h"

#include <algorithm>

namespace slabscope {

uint64_t Reachability::size_of(const HeapRun& run, uint64_t slot) const {
  const uint64_t known = slot < sizes_.size() ? sizes_[slot] : 0;
  return known == 0 ? run.object_size : std::min(known - 1, run.object_size);
}

// The slot of the live object that `word` points into.
std::optional<uint64_t> Reachability::target(uint64_t word) const {
  const std::optional<HeapImage::Place> place = heap_.find(word);
  if (!place) {
    return std::nullopt;
  }
  const HeapRun& run = heap_.runs()[place->run];
  const uint64_t begin = heap_.address_of(run, place->slot);
  const uint64_t size = size_of(run, place->slot);
  if (word - begin < std::max<uint64_t>(size, 1)) {
    return place->slot;
  }
  // An array of no elements: nothing but its count, and the program holds what lies behind.
  const bool array_of_none =
      size == kWord && word - begin == kWord && memory_.value<uint64_t>(begin).value_or(1) == 0;
  return array_of_none ? std::optional(place->slot) : std::nullopt;
}

void Reachability::reach(uint64_t word) {
  const std::optional<uint64_t> slot = target(word);
  if (slot && heap_.state(*slot) == SlotState::kLive) {
    heap_.set_state(*slot, SlotState::kReachable);
    grey_.push_back(*slot);
  }
}

void Reachability::add_root(uint64_t slot) {
  if (heap_.state(slot) == SlotState::kLive) {
    heap_.set_state(slot, SlotState::kReachable);
    grey_.push_back(slot);
  }
}

// Calls visit(word) for each aligned word that can be read.
template <typename Visit>
void Reachability::visit_memory(uint64_t begin, uint64_t end, Visit&& visit) {
  std::vector<uint64_t> words;
  for (const MemorySource::Part& part : memory_.touched(begin, end)) {
    for (uint64_t at = part.begin; at < part.end;) {
      const uint64_t bytes = std::min(kStream, part.end - at);
      words.resize(bytes / kWord);
      const size_t got = memory_.read(at, words.data(), words.size() * kWord) / kWord;
      for (size_t i = 0; i < got; ++i) {
        visit(words[i]);
      }
      // A page that cannot be read is passed over.
      at = got * kWord == bytes ? at + bytes : (at + got * kWord) / kPage * kPage + kPage;
    }
  }
}

std::span<const uint64_t> Reachability::contents(uint32_t run) {
  const auto known = kept_.find(run);
  if (known != kept_.end()) {
    return known->second;
  }
  if (kept_bytes_ > budget_) {
    kept_.clear();
    kept_bytes_ = 0;
  }
  const HeapRun& wanted = heap_.runs()[run];
  std::vector<uint64_t> words(wanted.bytes / kWord);
  words.resize(memory_.read(wanted.begin, words.data(), words.size() * kWord) / kWord);
  kept_bytes_ += words.size() * kWord;
  return kept_.emplace(run, std::move(words)).first->second;
}

template <typename Visit>
void Reachability::visit_object(uint64_t slot, Visit&& visit) {
  const uint32_t number = heap_.run_of(slot);
  const HeapRun& run = heap_.runs()[number];
  const uint64_t begin = heap_.address_of(run, slot);
  const uint64_t size = size_of(run, slot);
  if (run.bytes > kStream) {
    visit_memory(begin, begin + size / kWord * kWord, visit);
    return;
  }
  const std::span<const uint64_t> words = contents(number);
  const uint64_t first = (begin - run.begin) / kWord;
  const uint64_t last = std::min<uint64_t>(first + size / kWord, words.size());
  for (uint64_t i = first; i < last; ++i) {
    visit(words[i]);
  }
}

void Reachability::mark(const Roots& roots) {
  const auto reach_word = [this](uint64_t word) { reach(word); };
  for (const uint64_t word : roots.words) {
    reach(word);
  }
  for (const RootRange& range : roots.ranges) {
    visit_memory(range.begin, range.end, reach_word);
  }
  while (!grey_.empty()) {
    const uint64_t slot = grey_.back();
    grey_.pop_back();
    visit_object(slot, reach_word);
  }
}

Reachability::Lost Reachability::classify() {
  Lost lost;
  for (uint64_t slot = 0; slot < heap_.slots(); ++slot) {
    const SlotState state = heap_.state(slot);
    if (state != SlotState::kLive && state != SlotState::kIndirect) {
      continue;
    }
    lost.slots.push_back(slot);
    lost.first.push_back(lost.targets.size());
    visit_object(slot, [&](uint64_t word) {
      const std::optional<uint64_t> other = target(word);
      if (!other || *other == slot || heap_.state(*other) == SlotState::kReachable) {
        return;
      }
      heap_.set_state(*other, SlotState::kIndirect);
      lost.targets.push_back(static_cast<uint32_t>(*other));
    });
  }
  lost.first.push_back(lost.targets.size());
  return lost;
}

}  // namespace slabscope
