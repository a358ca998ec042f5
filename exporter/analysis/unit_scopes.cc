// SPDX-License-Identifier: MIT

#include "exporter/analysis/unit_scopes.h"

#include <dwarf.h>

#include <algorithm>
#include <functional>
#include <tuple>

namespace slabscope {
namespace {

constexpr size_t kMaxScopeDepth = 256;
constexpr size_t kMaxDies = 32u << 20;  // of one unit; the largest seen in LLVM has 2 million
constexpr size_t kMaxIntervals = 8u << 20;
constexpr size_t kMaxQualifier = 2048;

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
  std::vector<Level> path;  // the DIEs around the current one
  Level here{{}, kNoScope, kNoScope};
  if (dwarf_child(&unit, &here.die) != 0) {
    return;
  }
  for (size_t visited = 0; visited < kMaxDies; ++visited) {
    Level inner = here;
    visit(inner, static_cast<uint32_t>(path.size()));
    Dwarf_Die child;
    if (may_hold_functions(dwarf_tag(&here.die)) && path.size() < kMaxScopeDepth &&
        dwarf_child(&here.die, &child) == 0) {
      path.push_back(here);
      here = {child, inner.scope, inner.context};
      continue;
    }
    while (dwarf_siblingof(&here.die, &here.die) != 0) {
      if (path.empty()) {
        return;
      }
      here = path.back();
      path.pop_back();
    }
  }
}

// Records what `level.die` opens, and sets `level` to what its children live in.
void UnitScopes::visit(Level& level, uint32_t depth) {
  const int tag = dwarf_tag(&level.die);
  const uint32_t parent = level.scope;
  if (tag == DW_TAG_subprogram && level.context != kNoScope) {
    declarations_.push_back({level.die.addr, level.context});
  }
  enter_context(level, tag);
  if (tag != DW_TAG_subprogram && tag != DW_TAG_inlined_subroutine) {
    return;
  }
  Dwarf_Addr base = 0;
  Dwarf_Addr low = 0;
  Dwarf_Addr high = 0;
  const auto scope = static_cast<uint32_t>(scopes_.size());
  const size_t before = intervals_.size();
  for (ptrdiff_t at = 0; (at = dwarf_ranges(&level.die, at, &base, &low, &high)) > 0;) {
    if (low < high && intervals_.size() < kMaxIntervals) {
      intervals_.push_back({low, high, scope, depth});
    }
  }
  if (intervals_.size() == before) {
    return;
  }
  const bool inlined = tag == DW_TAG_inlined_subroutine;
  scopes_.push_back({level.die, inlined ? parent : kNoScope,
                     inlined ? number_attribute(level.die, DW_AT_call_file) : 0,
                     inlined ? number_attribute(level.die, DW_AT_call_line) : 0, inlined});
  level.scope = scope;
}

void UnitScopes::enter_context(Level& level, int tag) {
  if (tag != DW_TAG_namespace && tag != DW_TAG_module && tag != DW_TAG_structure_type &&
      tag != DW_TAG_class_type && tag != DW_TAG_union_type && tag != DW_TAG_subprogram) {
    return;
  }
  contexts_.push_back({level.die, level.context});
  level.context = static_cast<uint32_t>(contexts_.size() - 1);
}

std::string UnitScopes::qualifier(const Dwarf_Die& declaration) const {
  const auto found = std::lower_bound(
      declarations_.begin(), declarations_.end(), declaration.addr,
      [](const Declaration& d, const void* die) { return std::less<const void*>()(d.die, die); });
  if (found == declarations_.end() || found->die != declaration.addr) {
    return "";
  }
  std::string text;
  for (uint32_t at = found->context; at != kNoScope; at = contexts_[at].parent) {
    Dwarf_Die die = contexts_[at].die;
    const char* name = dwarf_diename(&die);
    if (name == nullptr) {
      name = dwarf_tag(&die) == DW_TAG_namespace ? "(anonymous namespace)" : "{unnamed}";
    }
    text.insert(0, std::string(name) + "::");
    if (text.size() > kMaxQualifier) {
      return "";
    }
  }
  return text;
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
