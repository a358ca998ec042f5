// SPDX-License-Identifier: MIT

#include "exporter/analysis/loaded_module.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "exporter/base/saturating.h"

namespace slabscope {
namespace {

constexpr size_t kMostSegments = 256;
constexpr size_t kMostDynamic = 1024;
constexpr uint64_t kMostStorage = uint64_t{1} << 30;

std::vector<Elf64_Phdr> segments_of(const MemorySource& memory, uint64_t base,
                                    const Elf64_Ehdr& head) {
  std::vector<Elf64_Phdr> segments(std::min<size_t>(head.e_phnum, kMostSegments));
  const size_t bytes = segments.size() * sizeof(Elf64_Phdr);
  segments.resize(memory.read(base + head.e_phoff, segments.data(), bytes) / sizeof(Elf64_Phdr));
  return segments;
}

// The loader writes this into the program's dynamic section, for debuggers.
uint64_t loader_structs_of(const MemorySource& memory, uint64_t dynamic) {
  for (size_t i = 0; i < kMostDynamic; ++i) {
    const auto entry = memory.value<Elf64_Dyn>(dynamic + i * sizeof(Elf64_Dyn));
    if (!entry || entry->d_tag == DT_NULL) {
      break;
    }
    if (entry->d_tag == DT_DEBUG) {
      return entry->d_un.d_ptr;
    }
  }
  return 0;
}

}  // namespace

std::optional<LoadedModule> read_loaded_module(const MemorySource& memory, uint64_t base) {
  const auto head = memory.value<Elf64_Ehdr>(base);
  if (!head || std::memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 ||
      head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_phentsize != sizeof(Elf64_Phdr)) {
    return std::nullopt;
  }
  const std::vector<Elf64_Phdr> segments = segments_of(memory, base, *head);
  const auto first = std::find_if(segments.begin(), segments.end(),
                                  [](const Elf64_Phdr& s) { return s.p_type == PT_LOAD; });
  LoadedModule module;
  if (first == segments.end()) {
    return module;
  }
  const uint64_t bias = head->e_type == ET_DYN ? base - first->p_vaddr / kPage * kPage : 0;
  for (const Elf64_Phdr& segment : segments) {
    const uint64_t begin = bias + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_W) != 0) {
      module.data.push_back({begin, saturating_sum(begin, segment.p_memsz)});
    } else if (segment.p_type == PT_TLS) {
      module.storage_bytes += std::min(segment.p_memsz, kMostStorage);
      module.storage_bytes += std::min(segment.p_align, kMostStorage);
    } else if (segment.p_type == PT_DYNAMIC) {
      module.loader_structs = loader_structs_of(memory, begin);
    }
  }
  return module;
}

}  // namespace slabscope
