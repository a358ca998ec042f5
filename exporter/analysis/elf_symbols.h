// SPDX-License-Identifier: MIT
//
// ElfSymbols: the functions that an ELF file's symbol table names, for code without DWARF.
//
//   .symtab of the debug file, else of the loaded one, else .dynsym ─sort─► name + offset
//
// Invariants
//   1. Addresses are distinct and ascending; of several names of one address the global one
//      with the fewest leading underscores is kept.
//   2. A symbol answers for its size; one of size 0 for what lies before the next symbol.
// Called from: symbolize.cc.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "exporter/analysis/elf_file.h"

namespace slabscope {

class ElfSymbols {
 public:
  struct Match {
    const char* name;  // mangled; lives as long as the file
    uint64_t offset;   // from the start of the function
  };

  // Adds the functions of `file`, which must outlive this object.
  void add(const ElfFile& file);

  [[nodiscard]] std::optional<Match> find(uint64_t address) const;
  [[nodiscard]] bool empty() const { return symbols_.empty(); }

 private:
  struct Symbol {
    uint64_t address;
    uint64_t size;
    const char* name;
    uint32_t rank;  // lower is better
  };

  void add_table(const ElfFile& file, void* section);

  std::vector<Symbol> symbols_;
};

}  // namespace slabscope
