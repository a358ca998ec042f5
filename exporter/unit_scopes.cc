// SPDX-License-Identifier: MIT

#include "exporter/unit_scopes.h"

#include <dwarf.h>

#include <algorithm>
#include <tuple>

namespace slabscope {
namespace {

constexpr size_t kMaxDepth = 256;
constexpr size_t kMaxDies = 32u << 20;  // of one unit; the largest seen in LLVM has 2 million
constexpr size_t kMaxIntervals = 8u << 20;

bool may_hold_functions(int tag) {
  switch (tag) {
    case DW_TAG_subprogram:
    case DW_TAG_inlined_subroutine:
    case DW_TAG_lexical_block:
    case DW_TAG_namespace:
    case DW_TAG_module:
    case DW_TAG_structure_type:
    case DW_TAG_class_type:
    case DW_TAG_union_type:
    case DW_TAG_try_block:
    case DW_TAG_catch_block:
      return true;
    default:
      return false;
  }
}

uint32_t number_attribute(Dwarf_Die& die, unsigned name) {
  Dwarf_Attribute attribute;
  Dwarf_Word value = 0;
  const bool found = dwarf_attr(&die, name, &attribute) != nullptr &&
                     dwarf_formudata(&attribute, &value) == 0 && value <= UINT32_MAX;
  return found ? static_cast<uint32_t>(value) : 0;
}

}  // namespace

UnitScopes::UnitScopes(Dwarf_Die unit) {
  size_t count = 0;
  if (dwarf_getsrcfiles(&unit, &files_, &count) != 0) {
    files_ = nullptr;
  }
  walk(unit);
  sweep();
}

void UnitScopes::walk(Dwarf_Die unit) {
  struct Level {
    Dwarf_Die die;
    uint32_t scope;
  };
  std::vector<Level> path;
  Dwarf_Die die;
  if (dwarf_child(&unit, &die) != 0) {
    return;
  }
  uint32_t parent = kNoScope;
  for (size_t visited = 0; visited < kMaxDies; ++visited) {
    const uint32_t scope = visit(die, parent, static_cast<uint32_t>(path.size()));
    Dwarf_Die child;
    if (may_hold_functions(dwarf_tag(&die)) && path.size() < kMaxDepth &&
        dwarf_child(&die, &child) == 0) {
      path.push_back({die, parent});
      die = child;
      parent = scope;
      continue;
    }
    while (dwarf_siblingof(&die, &die) != 0) {
      if (path.empty()) {
        return;
      }
      die = path.back().die;
      parent = path.back().scope;
      path.pop_back();
    }
  }
}

// Records the scope that `die` opens, if it does, and returns the one that its children live in.
uint32_t UnitScopes::visit(Dwarf_Die& die, uint32_t parent, uint32_t depth) {
  const int tag = dwarf_tag(&die);
  if (tag != DW_TAG_subprogram && tag != DW_TAG_inlined_subroutine) {
    return parent;
  }
  Dwarf_Addr base = 0;
  Dwarf_Addr low = 0;
  Dwarf_Addr high = 0;
  const auto scope = static_cast<uint32_t>(scopes_.size());
  const size_t before = intervals_.size();
  for (ptrdiff_t offset = 0; (offset = dwarf_ranges(&die, offset, &base, &low, &high)) > 0;) {
    if (low < high && intervals_.size() < kMaxIntervals) {
      intervals_.push_back({low, high, scope, depth});
    }
  }
  if (intervals_.size() == before) {
    return parent;
  }
  const bool inlined = tag == DW_TAG_inlined_subroutine;
  scopes_.push_back({die, inlined ? parent : kNoScope,
                     inlined ? number_attribute(die, DW_AT_call_file) : 0,
                     inlined ? number_attribute(die, DW_AT_call_line) : 0, inlined});
  return scope;
}

void UnitScopes::put_segment(uint64_t start, uint32_t scope) {
  if (!segments_.empty() && segments_.back().start == start) {
    segments_.back().scope = scope;
  } else if (segments_.empty() || segments_.back().scope != scope) {
    segments_.push_back({start, scope});
  }
}

void UnitScopes::sweep() {
  std::sort(intervals_.begin(), intervals_.end(), [](const Interval& a, const Interval& b) {
    return std::tie(a.low, b.high, a.depth, a.scope) < std::tie(b.low, a.high, b.depth, b.scope);
  });
  std::vector<std::pair<uint64_t, uint32_t>> open;  // ends and scopes, outermost first
  const auto close_until = [&](uint64_t address) {
    while (!open.empty() && open.back().first <= address) {
      const uint64_t end = open.back().first;
      open.pop_back();
      while (!open.empty() && open.back().first <= end) {
        open.pop_back();
      }
      put_segment(end, open.empty() ? kNoScope : open.back().second);
    }
  };
  for (const Interval& interval : intervals_) {
    close_until(interval.low);
    const uint64_t high = open.empty() ? interval.high : std::min(interval.high, open.back().first);
    put_segment(interval.low, interval.scope);
    open.emplace_back(high, interval.scope);
  }
  close_until(UINT64_MAX);
  intervals_.clear();
  intervals_.shrink_to_fit();
}

const Scope* UnitScopes::find(uint64_t address) const {
  auto next = std::upper_bound(segments_.begin(), segments_.end(), address,
                               [](uint64_t value, const Segment& s) { return value < s.start; });
  if (next == segments_.begin()) {
    return nullptr;
  }
  const uint32_t scope = std::prev(next)->scope;
  return scope == kNoScope ? nullptr : &scopes_[scope];
}

const Scope* UnitScopes::parent(const Scope& scope) const {
  return scope.parent == kNoScope ? nullptr : &scopes_[scope.parent];
}

const char* UnitScopes::file_name(uint32_t number) const {
  return files_ == nullptr ? nullptr : dwarf_filesrc(files_, number, nullptr, nullptr);
}

}  // namespace slabscope
