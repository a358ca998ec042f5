// SPDX-License-Identifier: MIT

#include "diag/cfi_object.h"

#include <dlfcn.h>
#include <elf.h>

#include "diag/abi/layout.h"

// glibc >= 2.35.
extern "C" int _dl_find_object(void* address, struct dl_find_object* result) noexcept SC_WEAK;

namespace slabscope::diag {
namespace {

constexpr uintptr_t kPage = abi::kPageBytes;

}  // namespace

SC_NOINLINE CfiObject find_object(uintptr_t pc) {
  CfiObject object;
  struct dl_find_object found;
  if (&_dl_find_object == nullptr || _dl_find_object(reinterpret_cast<void*>(pc), &found) != 0)
    return object;
  object.mapping = {reinterpret_cast<uintptr_t>(found.dlfo_map_start),
                    reinterpret_cast<uintptr_t>(found.dlfo_map_end)};
  object.index = reinterpret_cast<uintptr_t>(found.dlfo_eh_frame);
  if (object.mapping.high - object.index < 2 * sizeof(uint64_t) ||
      !object.mapping.contains(object.index))
    return {};
  object.loaded = found.dlfo_link_map;
  // Where .eh_frame lies and how many functions it has: the twelve bytes at the index's start.
  uint64_t words[2];
  memcpy(words, reinterpret_cast<const void*>(object.index), sizeof words);
  object.identity = object.index + reinterpret_cast<uintptr_t>(found.dlfo_link_map) * 3 +
                    (words[0] ^ (words[1] << 32U)) * 0x9e3779b97f4a7c15U;
  return object;
}

SC_NOINLINE CfiSegment segment_of_index(const CfiObject& object) {
  const ByteRange& mapping = object.mapping;
  Elf64_Ehdr header;
  if (mapping.high - mapping.low < kPage)
    return {};
  memcpy(&header, reinterpret_cast<const void*>(mapping.low), sizeof header);
  const bool is_elf = memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
                      header.e_phentsize == sizeof(Elf64_Phdr) && header.e_phoff < kPage &&
                      header.e_phoff + header.e_phnum * sizeof(Elf64_Phdr) <= kPage;
  if (!is_elf)
    return {{object.index, mapping.high}};  // the header is in no segment: rare, and all is one
  uintptr_t bias = 0;
  bool first = true;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    const uintptr_t at = mapping.low + header.e_phoff + i * sizeof(Elf64_Phdr);
    Elf64_Phdr segment;
    memcpy(&segment, reinterpret_cast<const void*>(at), sizeof segment);
    if (segment.p_type != PT_LOAD)
      continue;
    if (first)
      bias = mapping.low - (segment.p_vaddr & ~(kPage - 1));
    first = false;
    const ByteRange range{bias + segment.p_vaddr, bias + segment.p_vaddr + segment.p_filesz};
    if (range.contains(object.index) && mapping.contains(range.low) && range.high <= mapping.high)
      return {range, segment.p_flags};
  }
  return {};
}

}  // namespace slabscope::diag
