// SPDX-License-Identifier: MIT

#include "exporter/analysis/elf_symbols.h"

#include <gelf.h>
#include <libelf.h>

#include <algorithm>
#include <cstring>
#include <tuple>

namespace slabscope {
namespace {

constexpr size_t kMaxSymbols = 8u << 20;
constexpr size_t kMaxNested = 8;  // how far to look back for a symbol around another one

Elf_Scn* find_section(Elf* elf, uint32_t type) {
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf, section)) != nullptr;) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) != nullptr && header.sh_type == type) {
      return section;
    }
  }
  return nullptr;
}

bool is_executable(Elf* elf, size_t index) {
  Elf_Scn* section = elf_getscn(elf, index);
  GElf_Shdr header;
  return section != nullptr && gelf_getshdr(section, &header) != nullptr &&
         (header.sh_flags & SHF_EXECINSTR) != 0;
}

bool names_code(Elf* elf, const GElf_Sym& symbol) {
  switch (GELF_ST_TYPE(symbol.st_info)) {
    case STT_FUNC:
    case STT_GNU_IFUNC:
      return symbol.st_shndx != SHN_UNDEF;
    case STT_NOTYPE:  // hand-written assembly
      return symbol.st_shndx != SHN_UNDEF && symbol.st_shndx < SHN_LORESERVE &&
             is_executable(elf, symbol.st_shndx);
    default:
      return false;
  }
}

uint32_t rank_of(const GElf_Sym& symbol, const char* name) {
  const unsigned binding = GELF_ST_BIND(symbol.st_info);
  const uint32_t scope = binding == STB_GLOBAL ? 0 : binding == STB_WEAK ? 1 : 2;
  const bool mangled = std::strncmp(name, "_Z", 2) == 0;
  const auto underscores = mangled ? 0 : std::min<size_t>(std::strspn(name, "_"), 9);
  const uint32_t unsized = symbol.st_size == 0 ? 100 : 0;
  return unsized + scope * 10 + static_cast<uint32_t>(underscores);
}

}  // namespace

void ElfSymbols::add(const ElfFile& file) {
  Elf_Scn* section = find_section(file.elf(), SHT_SYMTAB);
  if (section == nullptr) {
    section = find_section(file.elf(), SHT_DYNSYM);
  }
  if (section == nullptr) {
    return;
  }
  add_table(file, section);
  std::sort(symbols_.begin(), symbols_.end(), [](const Symbol& a, const Symbol& b) {
    return std::tie(a.address, a.rank) < std::tie(b.address, b.rank);
  });
  const auto same = [](const Symbol& a, const Symbol& b) { return a.address == b.address; };
  symbols_.erase(std::unique(symbols_.begin(), symbols_.end(), same), symbols_.end());
}

void ElfSymbols::add_table(const ElfFile& file, void* section) {
  auto* scn = static_cast<Elf_Scn*>(section);
  GElf_Shdr header;
  Elf_Data* data = elf_getdata(scn, nullptr);
  if (gelf_getshdr(scn, &header) == nullptr || data == nullptr || header.sh_entsize == 0) {
    return;
  }
  const size_t count = std::min<uint64_t>(data->d_size / header.sh_entsize, kMaxSymbols);
  for (size_t i = 0; i < count; ++i) {
    GElf_Sym symbol;
    if (gelf_getsym(data, static_cast<int>(i), &symbol) == nullptr ||
        !names_code(file.elf(), symbol)) {
      continue;
    }
    const char* name = elf_strptr(file.elf(), header.sh_link, symbol.st_name);
    if (name == nullptr || name[0] == '\0' || name[0] == '$') {
      continue;  // "$x" and the like mark instruction sets
    }
    symbols_.push_back({symbol.st_value, symbol.st_size, name, rank_of(symbol, name)});
  }
}

std::optional<ElfSymbols::Match> ElfSymbols::find(uint64_t address) const {
  auto next = std::upper_bound(symbols_.begin(), symbols_.end(), address,
                               [](uint64_t value, const Symbol& s) { return value < s.address; });
  for (size_t step = 0; step < kMaxNested && next != symbols_.begin(); ++step) {
    --next;
    const uint64_t offset = address - next->address;
    if (offset < next->size || (next->size == 0 && step == 0)) {
      return Match{next->name, offset};
    }
  }
  return std::nullopt;
}

}  // namespace slabscope
