// SPDX-License-Identifier: MIT

#include "slab/base/clock.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstring>

#include "slab/base/sys.h"

namespace slabscope {
namespace {

using ClockFunction = int (*)(clockid_t, timespec*);
constinit std::atomic<ClockFunction> g_clock{nullptr};

// The vdso is an ELF image at a known place; its dynamic symbols are all defined functions.
struct VdsoTables {
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  size_t symbol_count = 0;
  uintptr_t bias = 0;
};

void read_dynamic(const ElfW(Dyn) * dynamic, VdsoTables& tables) {
  for (; dynamic->d_tag != DT_NULL; ++dynamic) {
    const uintptr_t address = tables.bias + dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_SYMTAB)
      tables.symbols = reinterpret_cast<const ElfW(Sym)*>(address);
    if (dynamic->d_tag == DT_STRTAB)
      tables.strings = reinterpret_cast<const char*>(address);
  }
  // The string table follows the symbols in every vdso; that bounds them without a hash table.
  const auto* end = reinterpret_cast<const ElfW(Sym)*>(tables.strings);
  if (tables.symbols != nullptr && end > tables.symbols) {
    tables.symbol_count = static_cast<size_t>(end - tables.symbols);
  }
}

ClockFunction find_clock(uintptr_t image) {
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(image);
  const auto* program = reinterpret_cast<const ElfW(Phdr)*>(image + header->e_phoff);
  VdsoTables tables;
  const ElfW(Dyn)* dynamic = nullptr;
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    if (program[i].p_type == PT_LOAD)
      tables.bias = image + program[i].p_offset - program[i].p_vaddr;
    if (program[i].p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const ElfW(Dyn)*>(image + program[i].p_offset);
    }
  }
  if (dynamic == nullptr)
    return nullptr;
  read_dynamic(dynamic, tables);
  for (size_t i = 0; i < tables.symbol_count; ++i) {
    const ElfW(Sym)& symbol = tables.symbols[i];
    if (symbol.st_shndx != SHN_UNDEF && (symbol.st_info & 15) == STT_FUNC &&
        strcmp(tables.strings + symbol.st_name, "__vdso_clock_gettime") == 0) {
      return reinterpret_cast<ClockFunction>(tables.bias + symbol.st_value);
    }
  }
  return nullptr;
}

}  // namespace

void clock_init() {
  const uintptr_t image = getauxval(AT_SYSINFO_EHDR);
  if (image != 0)
    g_clock.store(find_clock(image), std::memory_order_relaxed);
}

namespace {

uint64_t clock_ns(clockid_t id) {
  const ClockFunction clock = g_clock.load(std::memory_order_relaxed);
  timespec now{};
  if (clock == nullptr || clock(id, &now) != 0) {
    if (sys::failed(sys::raw(SYS_clock_gettime, id, sys::arg(&now))))
      return 0;
  }
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

uint64_t monotonic_ns() {
  return clock_ns(CLOCK_MONOTONIC);
}
uint64_t coarse_monotonic_ns() {
  return clock_ns(CLOCK_MONOTONIC_COARSE);
}
uint32_t coarse_monotonic_ms() {
  return static_cast<uint32_t>(coarse_monotonic_ns() / 1'000'000);
}
uint64_t realtime_ns() {
  return clock_ns(CLOCK_REALTIME);
}

}  // namespace slabscope
