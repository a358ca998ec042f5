// SPDX-License-Identifier: MIT

#include "exporter/analysis/dwarf_index.h"

#include <dwarf.h>
#include <elfutils/libdw.h>

#include <algorithm>
#include <filesystem>
#include <unordered_map>
#include <utility>

#include "exporter/analysis/demangle.h"
#include "exporter/analysis/unit_scopes.h"

namespace slabscope {

struct DwarfUnitRange {
  uint64_t low;
  uint64_t high;
  uint32_t unit;
};

struct DwarfUnit {
  Dwarf_Die die;
  std::unordered_map<const char*, std::string> paths;  // as libdw says them, as they are shown
  std::unique_ptr<UnitScopes> scopes;                  // built when first asked for
};

namespace {

constexpr size_t kMaxUnits = 1u << 20;
constexpr size_t kMaxUnitRanges = 16u << 20;
constexpr size_t kMaxChain = 128;  // inline depth that is shown

// Where abstract origins and specifications lead: the declaration inside its namespace or class.
Dwarf_Die declaration_of(Dwarf_Die die) {
  for (int step = 0; step < 8; ++step) {
    Dwarf_Attribute attribute;
    Dwarf_Die next;
    if (dwarf_formref_die(dwarf_attr(&die, DW_AT_abstract_origin, &attribute), &next) == nullptr &&
        dwarf_formref_die(dwarf_attr(&die, DW_AT_specification, &attribute), &next) == nullptr) {
      break;
    }
    die = next;
  }
  return die;
}

// The mangled name says most (namespace, arguments), but inlined functions of internal linkage have
// none, and a hostile one may be too costly to demangle.
std::string function_name(Dwarf_Die die, const UnitScopes& scopes) {
  Dwarf_Attribute attribute;
  for (const unsigned name : {DW_AT_linkage_name, DW_AT_MIPS_linkage_name}) {
    const char* text = dwarf_formstring(dwarf_attr_integrate(&die, name, &attribute));
    if (text != nullptr && text[0] != '\0') {
      std::string readable = demangle(text);
      if (!readable.starts_with("_Z")) {
        return readable;
      }
    }
  }
  const char* plain = dwarf_diename(&die);
  if (plain == nullptr) {
    return "";
  }
  constexpr std::string_view kUnnamed = "{unnamed}::";
  std::string qualifier = scopes.qualifier(declaration_of(die));
  if (qualifier.ends_with(kUnnamed) && std::string_view(plain) == "operator()") {
    qualifier.replace(qualifier.size() - kUnnamed.size(), kUnnamed.size(), "{lambda}::");
  }
  return demangle(qualifier + plain);
}

// Relative names are relative to the directory the unit was compiled in.
std::string absolute_path(Dwarf_Die unit, const char* path) {
  std::filesystem::path full;
  if (path[0] != '/') {
    Dwarf_Attribute attribute;
    const char* base = dwarf_formstring(dwarf_attr(&unit, DW_AT_comp_dir, &attribute));
    full = base != nullptr ? base : "";
  }
  return (full / path).lexically_normal().string();
}

const std::string& source_path(DwarfUnit& unit, const char* path) {
  static const std::string kUnknown;
  if (path == nullptr || path[0] == '\0' || std::string_view(path) == "???") {
    return kUnknown;
  }
  auto [entry, fresh] = unit.paths.try_emplace(path);
  if (fresh) {
    entry->second = absolute_path(unit.die, path);
  }
  return entry->second;
}

}  // namespace

struct DwarfIndex::State {
  Dwarf* dwarf = nullptr;
  Dwarf* alternate = nullptr;
  std::vector<DwarfUnit> units;
  std::vector<DwarfUnitRange> ranges;            // sorted by low
  std::vector<uint64_t> reach;                   // reach[i]: the largest high of ranges[0..i]
  std::unordered_map<void*, std::string> names;  // by DIE address

  ~State();
  void read_units();
  void add_unit(Dwarf_Die die);
  std::vector<SourceFrame> find_in(DwarfUnit& unit, uint64_t address);
  const std::string& name_of(const Dwarf_Die& die, const UnitScopes& scopes);
};

DwarfIndex::State::~State() {
  units.clear();
  if (dwarf != nullptr) {
    dwarf_end(dwarf);
  }
  if (alternate != nullptr) {
    dwarf_end(alternate);
  }
}

void DwarfIndex::State::add_unit(Dwarf_Die die) {
  const auto unit = static_cast<uint32_t>(units.size());
  Dwarf_Addr base = 0;
  Dwarf_Addr low = 0;
  Dwarf_Addr high = 0;
  const size_t before = ranges.size();
  for (ptrdiff_t offset = 0; (offset = dwarf_ranges(&die, offset, &base, &low, &high)) > 0;) {
    if (low < high && ranges.size() < kMaxUnitRanges) {
      ranges.push_back({low, high, unit});
    }
  }
  if (ranges.size() != before) {
    units.push_back({die, {}, nullptr});
  }
}

void DwarfIndex::State::read_units() {
  Dwarf_CU* cu = nullptr;
  Dwarf_Die die;
  // No `subdie` is asked for: libdw would look for the split unit and open the path it claims.
  while (units.size() < kMaxUnits &&
         dwarf_get_units(dwarf, cu, &cu, nullptr, nullptr, &die, nullptr) == 0) {
    const int tag = dwarf_tag(&die);
    if (tag == DW_TAG_compile_unit || tag == DW_TAG_skeleton_unit || tag == DW_TAG_partial_unit) {
      add_unit(die);
    }
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const DwarfUnitRange& a, const DwarfUnitRange& b) { return a.low < b.low; });
  uint64_t far = 0;
  for (const DwarfUnitRange& range : ranges) {
    far = std::max(far, range.high);
    reach.push_back(far);
  }
}

const std::string& DwarfIndex::State::name_of(const Dwarf_Die& die, const UnitScopes& scopes) {
  auto [entry, fresh] = names.try_emplace(die.addr);
  if (fresh) {
    entry->second = function_name(die, scopes);
  }
  return entry->second;
}

std::vector<SourceFrame> DwarfIndex::State::find_in(DwarfUnit& unit, uint64_t address) {
  if (unit.scopes == nullptr) {
    unit.scopes = std::make_unique<UnitScopes>(unit.die);
  }
  std::vector<SourceFrame> frames;
  SourceFrame frame;
  if (Dwarf_Line* line = dwarf_getsrc_die(&unit.die, address); line != nullptr) {
    int number = 0;
    dwarf_lineno(line, &number);
    frame.line = number > 0 ? static_cast<uint32_t>(number) : 0;
    frame.file = source_path(unit, dwarf_linesrc(line, nullptr, nullptr));
  }
  const Scope* scope = unit.scopes->find(address);
  for (; scope != nullptr && frames.size() < kMaxChain; scope = unit.scopes->parent(*scope)) {
    frame.function = name_of(scope->die, *unit.scopes);
    frame.inlined = scope->inlined;
    frames.push_back(frame);
    if (!scope->inlined) {
      return frames;
    }
    frame.file = source_path(unit, unit.scopes->file_name(scope->call_file));
    frame.line = scope->call_line;
  }
  // No function around it: the line table alone, or an inline chain whose root has no entry.
  if (frames.empty() ? !frame.file.empty() : frames.back().inlined) {
    frame.function.clear();
    frame.inlined = false;
    frames.push_back(frame);
  }
  return frames;
}

DwarfIndex::DwarfIndex(std::unique_ptr<State> state) : state_(std::move(state)) {}
DwarfIndex::~DwarfIndex() = default;

std::unique_ptr<DwarfIndex> DwarfIndex::open(const ElfFile& file, const ElfFile* alternate) {
  auto state = std::make_unique<State>();
  if (!file.has_dwarf()) {
    return nullptr;
  }
  state->dwarf = dwarf_begin_elf(file.elf(), DWARF_C_READ, nullptr);
  if (state->dwarf == nullptr) {
    return nullptr;
  }
  if (alternate != nullptr) {
    state->alternate = dwarf_begin_elf(alternate->elf(), DWARF_C_READ, nullptr);
  }
  if (state->alternate != nullptr) {
    dwarf_setalt(state->dwarf, state->alternate);
  } else if (!file.alternate_link().name.empty()) {
    return nullptr;
  }
  state->read_units();
  return std::unique_ptr<DwarfIndex>(new DwarfIndex(std::move(state)));
}

std::vector<SourceFrame> DwarfIndex::find(uint64_t address) {
  const std::vector<DwarfUnitRange>& ranges = state_->ranges;
  auto next =
      std::upper_bound(ranges.begin(), ranges.end(), address,
                       [](uint64_t value, const DwarfUnitRange& r) { return value < r.low; });
  std::vector<SourceFrame> best;
  while (next != ranges.begin()) {
    --next;
    if (state_->reach[static_cast<size_t>(next - ranges.begin())] <= address) {
      break;
    }
    if (address < next->high) {
      std::vector<SourceFrame> frames = state_->find_in(state_->units[next->unit], address);
      if (!frames.empty() && !frames.back().function.empty()) {
        return frames;
      }
      best = best.empty() ? std::move(frames) : std::move(best);
    }
  }
  return best;
}

}  // namespace slabscope
