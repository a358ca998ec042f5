// SPDX-License-Identifier: MIT

#include "exporter/output/report_entries.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "exporter/analysis/heap_groups.h"
#include "exporter/analysis/stack_frames.h"

namespace slabscope {
namespace {

// What makes an entry of its own.
struct EntryKey {
  std::optional<LeakClass> leak_class;  // nothing: not checked
  StackFrames::Ids stack;
  uint32_t cache = 0;  // of objects without a stack, if checked

  // NOLINTNEXTLINE(modernize-use-nullptr): what the compiler makes of it compares with 0.
  auto operator<=>(const EntryKey&) const = default;
};

// One entry in the making.
struct Draft {
  HeapGroup sum;
  ObjectTotals holds;
  ObjectTotals in_cycles;
  std::map<const Draft*, ObjectTotals> owners;
  std::optional<size_t> index;  // into LeakReport::leaks
};

// Sums of one stack and class; those that look the same become one draft.
struct Piece {
  std::optional<LeakClass> leak_class;
  uint32_t stack = 0;  // handle
  uint32_t cache = 0;  // of pieces without a stack
  HeapGroup sum;
};

// From the objects, which know their caches and sizes.
std::vector<Piece> pieces_of_objects(const Snapshot& snapshot) {
  HeapGroups groups;
  for (const LiveObject& object : snapshot.objects) {
    groups.add(object);
  }
  std::vector<Piece> pieces;
  for (const auto& [handle, sum] : groups.groups()) {
    pieces.push_back({{}, handle, 0, sum});
  }
  return pieces;
}

// From the sums that the depot keeps, if the objects were not read.
std::vector<Piece> pieces_of_depot(const Snapshot& snapshot) {
  std::vector<Piece> pieces;
  for (const Stack& stack : snapshot.stacks) {
    if (stack.live_objects == 0) {
      continue;
    }
    HeapGroup sum;
    sum.estimated = snapshot.target.track_mode != abi::TrackMode::kAll;
    sum.samples = stack.live_objects;
    sum.objects.value =
        sum.estimated ? stack.estimated_live_objects : static_cast<double>(stack.live_objects);
    sum.bytes.value =
        static_cast<double>(sum.estimated ? stack.estimated_live_bytes : stack.live_bytes);
    pieces.push_back({{}, stack.handle, 0, sum});
  }
  return pieces;
}

// From a check, which knows every object: a piece a group, in their order.
std::vector<Piece> pieces_of_check(const LeakCheck& check) {
  std::vector<Piece> pieces;
  for (const LeakGroup& found : check.groups) {
    HeapGroup sum;
    sum.objects.value = static_cast<double>(found.objects);
    sum.bytes.value = static_cast<double>(found.bytes);
    sum.samples = found.stack != 0 ? found.objects : 0;
    sum.smallest = found.smallest;
    sum.largest = found.largest;
    sum.caches[found.cache] = sum.objects.value;
    pieces.push_back({found.leak_class, found.stack, found.cache, sum});
  }
  return pieces;
}

void subtract(const ObjectTotals& taken, HeapGroup& sum) {
  sum.objects.value -= static_cast<double>(taken.objects);
  sum.bytes.value -= static_cast<double>(taken.bytes);
  sum.samples -= std::min(sum.samples, taken.objects);
  for (auto& [cache, objects] : sum.caches) {
    objects -= static_cast<double>(taken.objects);  // a group has one cache
  }
}

// Definite before indirect before reachable; "unknown" stands alone.
int class_order(const LeakEntry& entry) {
  return entry.leak_class == "definite" ? 0 : entry.leak_class == "indirect" ? 1 : 2;
}

bool precedes(const LeakEntry& a, const LeakEntry& b) {
  if (class_order(a) != class_order(b)) {
    return class_order(a) < class_order(b);
  }
  if (std::tie(a.bytes, a.objects) != std::tie(b.bytes, b.objects)) {
    return std::tie(a.bytes, a.objects) > std::tie(b.bytes, b.objects);
  }
  return std::lexicographical_compare(
      a.stack.begin(), a.stack.end(), b.stack.begin(), b.stack.end(),
      [](const SymbolFrame& x, const SymbolFrame& y) {
        return std::tie(x.function, x.file, x.line, x.module, x.offset) <
               std::tie(y.function, y.file, y.line, y.module, y.offset);
      });
}

class EntryBuilder {
 public:
  EntryBuilder(const StacksByHandle& stacks, const LeakCheck* check, Symbolizer& symbolizer,
               const ReportOptions& options, LeakReport& report)
      : stacks_(stacks),
        check_(check),
        frames_(symbolizer),
        options_(options),
        report_(report),
        taken_(options.suppressions.patterns.size()) {}

  void build(std::vector<Piece> pieces, const CacheNames& names) {
    name(pieces);
    if (check_ != nullptr) {
      mark_lost(pieces);
    }
    make_drafts(pieces);
    if (check_ != nullptr) {
      add_totals(pieces);
      find_owners(pieces);
    }
    finish(names);
  }

 private:
  struct Named {
    StackFrames::Ids stack;
    std::optional<uint32_t> suppressed_by;  // number of a pattern
    Draft* draft = nullptr;
  };

  void name(const std::vector<Piece>& pieces);
  std::optional<uint32_t> pattern_of(const StackFrames::Ids& stack);
  void mark_lost(std::vector<Piece>& pieces);
  void make_drafts(const std::vector<Piece>& pieces);
  void add_totals(const std::vector<Piece>& pieces);
  void find_owners(const std::vector<Piece>& pieces);
  void finish(const CacheNames& names);

  const StacksByHandle& stacks_;
  const LeakCheck* check_;
  StackFrames frames_;
  const ReportOptions& options_;
  LeakReport& report_;
  std::vector<ObjectTotals> taken_;                                // by pattern
  std::unordered_map<uint32_t, std::optional<uint32_t>> matched_;  // pattern by frame
  std::vector<Named> named_;                                       // by piece
  std::vector<uint32_t> suppressed_;                               // pattern by lost object
  HeapGroup explained_;                                            // objects with a stack
  std::map<EntryKey, Draft> drafts_;
};

// The pattern that the innermost frame which has one matches.
std::optional<uint32_t> EntryBuilder::pattern_of(const StackFrames::Ids& stack) {
  if (taken_.empty()) {
    return std::nullopt;
  }
  for (const uint32_t frame : stack) {
    const auto [known, fresh] = matched_.try_emplace(frame);
    if (fresh) {
      known->second = options_.suppressions.match(frames_.frame(frame));
    }
    if (known->second) {
      return known->second;
    }
  }
  return std::nullopt;
}

void EntryBuilder::name(const std::vector<Piece>& pieces) {
  for (const Piece& piece : pieces) {
    Named& named = named_.emplace_back();
    if (const auto stack = stacks_.find(piece.stack); stack != stacks_.end()) {
      named.stack = frames_.ids_of(*stack->second);
      explained_.objects.add(piece.sum.objects);
      explained_.bytes.add(piece.sum.bytes);
    }
    named.suppressed_by =
        piece.leak_class == LeakClass::kReachable ? std::nullopt : pattern_of(named.stack);
    if (options_.progress) {
      options_.progress(named_.size(), pieces.size());
    }
  }
}

// Takes what is suppressed, and what hangs on it, out of the pieces.
void EntryBuilder::mark_lost(std::vector<Piece>& pieces) {
  const LostObjects& lost = check_->lost;
  suppressed_.assign(lost.size(), kNoMark);
  for (size_t object = 0; object < lost.size(); ++object) {
    suppressed_[object] = named_[lost.group[object]].suppressed_by.value_or(kNoMark);
  }
  spread(lost, suppressed_);
  std::map<uint32_t, ObjectTotals> taken;  // by group
  for (size_t object = 0; object < lost.size(); ++object) {
    if (suppressed_[object] != kNoMark) {
      const ObjectTotals one = {1, lost.bytes[object]};
      taken[lost.group[object]].add(one);
      taken_[suppressed_[object]].add(one);
    }
  }
  for (const auto& [group, sums] : taken) {
    subtract(sums, pieces[group].sum);
  }
}

void EntryBuilder::make_drafts(const std::vector<Piece>& pieces) {
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    if (check_ == nullptr && named_[i].suppressed_by) {
      taken_[*named_[i].suppressed_by].add(
          {rounded(piece.sum.objects.value), rounded(piece.sum.bytes.value)});
      continue;
    }
    if (check_ != nullptr && piece.sum.objects.value < 0.5) {
      continue;  // all of it is suppressed
    }
    const bool known = !named_[i].stack.empty();
    const uint32_t cache = check_ != nullptr && !known ? piece.cache : 0;
    Draft& draft = drafts_[{piece.leak_class, named_[i].stack, cache}];
    draft.sum.add(piece.sum);
    named_[i].draft = &draft;
  }
}

void EntryBuilder::add_totals(const std::vector<Piece>& pieces) {
  CheckedTotals& totals = *report_.checked;
  for (const Piece& piece : pieces) {
    const bool reachable = piece.leak_class == LeakClass::kReachable;
    const ObjectTotals sums = {rounded(piece.sum.objects.value), rounded(piece.sum.bytes.value)};
    ObjectTotals& sum = reachable                                  ? totals.reachable
                        : piece.leak_class == LeakClass::kIndirect ? totals.indirect
                                                                   : totals.definite;
    sum.add(sums);
    totals.lost_without_stack += !reachable && piece.stack == 0 ? sums.objects : 0;
  }
}

void EntryBuilder::find_owners(const std::vector<Piece>& pieces) {
  const LostObjects& lost = check_->lost;
  // Groups as marks. Whoever is suppressed holds nothing here: what it leads to is marked as well.
  std::vector<uint32_t> owners(lost.size(), kNoMark);
  for (size_t object = 0; object < lost.size(); ++object) {
    const uint32_t group = lost.group[object];
    if (suppressed_[object] != kNoMark || pieces[group].leak_class == LeakClass::kDefinite) {
      owners[object] = group;
    }
  }
  spread(lost, owners);
  for (size_t object = 0; object < lost.size(); ++object) {
    const uint32_t group = lost.group[object];
    if (suppressed_[object] != kNoMark || pieces[group].leak_class == LeakClass::kDefinite) {
      continue;
    }
    const ObjectTotals one = {1, lost.bytes[object]};
    Draft& held = *named_[group].draft;
    if (owners[object] == kNoMark) {
      held.in_cycles.add(one);
      continue;
    }
    Draft& owner = *named_[owners[object]].draft;
    owner.holds.add(one);
    held.owners[&owner].add(one);
  }
}

LeakEntry entry_of(const Draft& draft, const EntryKey& key, const StackFrames& frames,
                   const CacheNames& names) {
  LeakEntry entry;
  const HeapGroup& sum = draft.sum;
  if (key.leak_class) {
    entry.leak_class = to_string(*key.leak_class);
  }
  entry.objects = rounded(sum.objects.value);
  entry.bytes = rounded(sum.bytes.value);
  entry.estimated = sum.estimated;
  entry.samples = sum.samples;
  entry.smallest = sum.smallest == UINT64_MAX ? 0 : sum.smallest;
  entry.largest = sum.largest;
  entry.caches = cache_names(sum.caches, names);
  for (const uint32_t id : key.stack) {
    entry.stack.push_back(frames.frame(id));
  }
  entry.holds = draft.holds;
  entry.in_cycles = draft.in_cycles;
  return entry;
}

void add_owners(const Draft& draft, LeakEntry& entry) {
  LeakOwner unlisted;  // all of them as one
  for (const auto& [owner, held] : draft.owners) {
    if (owner->index) {
      entry.owners.push_back({owner->index, held});
    } else {
      unlisted.held.add(held);
    }
  }
  if (unlisted.held.objects != 0) {
    entry.owners.push_back(unlisted);
  }
  const auto order = [](const LeakOwner& owner) {
    return std::tuple(-static_cast<double>(owner.held.bytes),
                      -static_cast<double>(owner.held.objects), owner.leak.value_or(SIZE_MAX));
  };
  std::sort(entry.owners.begin(), entry.owners.end(),
            [&](const LeakOwner& a, const LeakOwner& b) { return order(a) < order(b); });
}

void EntryBuilder::finish(const CacheNames& names) {
  std::vector<std::pair<LeakEntry, Draft*>> entries;
  for (auto& [key, draft] : drafts_) {
    const ObjectTotals sums = {rounded(draft.sum.objects.value), rounded(draft.sum.bytes.value)};
    report_.samples += draft.sum.samples;
    report_.estimated = report_.estimated || draft.sum.estimated;
    if (sums.bytes < options_.min_bytes) {
      ++report_.entries_below_min;
      report_.below_min.add(sums);
    } else {
      entries.emplace_back(entry_of(draft, key, frames_, names), &draft);
    }
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return precedes(a.first, b.first); });
  report_.explained = {rounded(explained_.objects.value), rounded(explained_.bytes.value)};
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].second->index = i;
  }
  for (auto& [entry, draft] : entries) {
    add_owners(*draft, entry);
    report_.leaks.push_back(std::move(entry));
  }
  for (size_t i = 0; i < taken_.size(); ++i) {
    if (taken_[i].objects != 0) {
      report_.suppressed.push_back({options_.suppressions.patterns[i], taken_[i]});
    }
  }
}

}  // namespace

uint64_t rounded(double value) {
  constexpr double kLargest = 9.2e18;
  return value > kLargest ? UINT64_MAX : static_cast<uint64_t>(std::llround(value));
}

void add_entries(const Snapshot& snapshot, const StacksByHandle& stacks, const LeakCheck* check,
                 Symbolizer& symbolizer, const ReportOptions& options, LeakReport& report) {
  std::vector<Piece> pieces = check != nullptr           ? pieces_of_check(*check)
                              : snapshot.objects.empty() ? pieces_of_depot(snapshot)
                                                         : pieces_of_objects(snapshot);
  EntryBuilder(stacks, check, symbolizer, options, report)
      .build(std::move(pieces), cache_names_of(snapshot));
}

}  // namespace slabscope
