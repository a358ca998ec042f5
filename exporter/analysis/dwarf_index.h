// SPDX-License-Identifier: MIT
//
// DwarfIndex: the debug information of one file, arranged so that an address is two searches.
//
//   all units ─ranges─►  [lo,hi) -> unit                          once a file, unit headers only
//   one unit  ─walk───►  [lo,hi) -> innermost scope ─parent─► …    once a unit, when first needed
//                         │
//   address ──────────────┴─► inlined scope: line table; its caller: DW_AT_call_line; …; function
//
// Invariants
//   1. Segments of a unit are disjoint and ascending; each names the innermost scope.
//   2. A scope's parent has a smaller index, so a chain ends.
//   3. Depth, scopes and ranges are bounded: absurd debug data costs little and answers less.
//   4. Split units (.dwo) are not opened: their paths are the file's own claim.
//                                                              (symbolize_test, against addr2line)
// Called from: symbolize.cc. Not thread-safe.
// Why: dwarf_getscopes walks the whole unit for each address, 1.4 to 2.2 ms; this takes 0.1 us.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "exporter/analysis/elf_file.h"

namespace slabscope {

struct SourceFrame {
  std::string function;  // demangled; "" if the debug information has no function there
  std::string file;
  uint32_t line = 0;
  bool inlined = false;
};

class DwarfIndex {
 public:
  // Both files must outlive the index. `alternate` may be nullptr. nullptr if `file` has no DWARF.
  static std::unique_ptr<DwarfIndex> open(const ElfFile& file, const ElfFile* alternate);
  ~DwarfIndex();
  DwarfIndex(const DwarfIndex&) = delete;
  DwarfIndex& operator=(const DwarfIndex&) = delete;

  // Innermost first; empty if no unit covers the address.
  [[nodiscard]] std::vector<SourceFrame> find(uint64_t address);

 private:
  struct State;
  explicit DwarfIndex(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace slabscope
