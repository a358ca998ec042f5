// SPDX-License-Identifier: MIT

#include "diag/module_table.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstring>

#include "diag/memory_probe.h"
#include "diag/text.h"
#include "slab/base/compiler.h"
#include "slab/base/sole_thread.h"

// glibc 2.35 and later: no lock, no allocation, safe in signal handlers.
extern "C" int _dl_find_object(void* address, struct dl_find_object* result) noexcept SC_WEAK;

namespace slabscope::diag {
namespace {

using ProgramHeader = ElfW(Phdr);

constexpr uintptr_t kPageMask = abi::kPageBytes - 1;

constexpr uintptr_t align_note(uintptr_t n) {
  return (n + 3) & ~uintptr_t{3};
}

// Where the module lies and what tells it from another, by its program headers.
void measure(ModuleTable::Module& module) {
  module.start = ~uintptr_t{0};
  module.end = 0;
  const auto* headers = static_cast<const ProgramHeader*>(module.program_headers);
  for (uint32_t i = 0; i < module.program_header_count; ++i) {
    const uintptr_t address = module.bias + headers[i].p_vaddr;
    if (headers[i].p_type == PT_GNU_EH_FRAME)
      module.token = address;
    if (headers[i].p_type != PT_LOAD)
      continue;
    if ((address & ~kPageMask) < module.start)
      module.start = address & ~kPageMask;
    if (address + headers[i].p_memsz > module.end)
      module.end = address + headers[i].p_memsz;
  }
}

// Copies the build-id out of one mapped note segment; its length, or 0.
uint32_t find_build_id(uintptr_t note, uintptr_t end, uint8_t* to, size_t room) {
  while (end > note && end - note > sizeof(ElfW(Nhdr))) {
    if (!is_readable(note))
      return 0;
    const auto* header = reinterpret_cast<const ElfW(Nhdr)*>(note);
    const uintptr_t name = note + sizeof *header;
    const uintptr_t content = name + align_note(header->n_namesz);
    const uintptr_t next = content + align_note(header->n_descsz);
    if (next > end || next <= note)
      return 0;
    if (header->n_type == NT_GNU_BUILD_ID && header->n_namesz == 4 &&
        memcmp(reinterpret_cast<const char*>(name), "GNU", 4) == 0) {
      const size_t bytes = header->n_descsz < room ? header->n_descsz : room;
      memcpy(to, reinterpret_cast<const void*>(content), bytes);
      return static_cast<uint32_t>(bytes);
    }
    note = next;
  }
  return 0;
}

void copy_build_id(const ModuleTable::Module& module, abi::ModuleRecord& record) {
  const auto* headers = static_cast<const ProgramHeader*>(module.program_headers);
  for (uint32_t i = 0; i < module.program_header_count && record.build_id_bytes == 0; ++i) {
    const uintptr_t note = module.bias + headers[i].p_vaddr;
    if (headers[i].p_type != PT_NOTE || note < module.start ||
        headers[i].p_memsz > module.end - note) {
      continue;
    }
    record.build_id_bytes =
        find_build_id(note, note + headers[i].p_memsz, record.build_id, sizeof record.build_id);
  }
}

// The program headers of a mapped object, found from its first page.
bool read_elf_header(ModuleTable::Module& module) {
  if (!is_readable(module.start))
    return false;
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(module.start);
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
    return false;
  const uintptr_t table = module.start + header->e_phoff;
  const size_t bytes = size_t{header->e_phnum} * sizeof(ProgramHeader);
  if (header->e_phentsize != sizeof(ProgramHeader) || table < module.start || table > module.end ||
      bytes > module.end - table || !is_readable(table) || !is_readable(table + bytes - 8)) {
    return false;
  }
  module.program_headers = reinterpret_cast<const void*>(table);
  module.program_header_count = header->e_phnum;
  return true;
}

struct LoadedVisit {
  ModuleTable* table;
  const char* exe;
  bool first;
};

SC_COLD int add_one_loaded(struct dl_phdr_info* info, size_t, void* data) {
  auto& visit = *static_cast<LoadedVisit*>(data);
  ModuleTable::Module module;
  module.bias = info->dlpi_addr;
  module.program_headers = info->dlpi_phdr;
  module.program_header_count = info->dlpi_phnum;
  // The program itself comes first and has no name.
  module.path = info->dlpi_name != nullptr ? info->dlpi_name : "";
  if (visit.first && module.path[0] == '\0')
    module.path = visit.exe;
  visit.first = false;
  measure(module);
  if (module.start < module.end)
    visit.table->add(module);
  return 0;
}

}  // namespace

void ModuleTable::add_loaded() {
  LoadedVisit visit{this, file_->header()->exe, true};
  dl_iterate_phdr(add_one_loaded, &visit);
}

void ModuleTable::note_stack(const uintptr_t* frames, unsigned count) {
  if (&_dl_find_object == nullptr)
    return;
  uintptr_t start = 0;
  uintptr_t end = 0;
  for (unsigned i = 0; i < count; ++i) {
    const uintptr_t pc = frames[i] - 1;  // the call, not what follows it
    if (pc >= start && pc < end)
      continue;
    if (!add_found(pc, start, end))
      start = end = 0;
  }
}

// Looks the address up, records its module if need be; its bounds, or false if it is in none.
bool ModuleTable::add_found(uintptr_t pc, uintptr_t& start, uintptr_t& end) {
  struct dl_find_object found {};
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0)
    return false;
  start = reinterpret_cast<uintptr_t>(found.dlfo_map_start);
  end = reinterpret_cast<uintptr_t>(found.dlfo_map_end);
  const auto token = reinterpret_cast<uintptr_t>(found.dlfo_eh_frame);
  if (is_known(start, token))
    return true;
  Module module;
  module.start = start;
  module.end = end;
  module.bias = found.dlfo_link_map->l_addr;
  module.token = token;
  if (found.dlfo_link_map->l_name != nullptr)
    module.path = found.dlfo_link_map->l_name;
  if (*module.path == '\0')
    module.path = file_->header()->exe;  // the loader has no name for the main program
  read_elf_header(module);
  add(module);
  return true;
}

bool ModuleTable::add(const Module& module) {
  if (!mutex_.try_lock())
    return false;
  const bool added = is_known(module.start, module.token) || add_locked(module);
  mutex_.unlock();
  return added;
}

bool ModuleTable::is_known(uintptr_t start, uintptr_t token) const {
  const uint32_t count = count_.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < count; ++i) {
    if (known_[i].start.load(std::memory_order_relaxed) == start &&
        known_[i].token.load(std::memory_order_relaxed) == token) {
      return true;
    }
  }
  return false;
}

bool ModuleTable::add_locked(const Module& module) {
  const uint32_t index = count_.load(std::memory_order_relaxed);
  abi::ModuleRecord* record = file_->modules() + index;
  if (index == abi::kMaxModules || !file_->ensure(record, sizeof *record)) {
    add_relaxed(file_->counters().dropped_modules, 1);
    return false;
  }
  const uint32_t next = generation_.load(std::memory_order_relaxed) + 1;
  const bool replaces = retire_overlapping_locked(module, next);
  const uint32_t loaded = replaces ? next : next - 1;

  record->start = module.start;
  record->end = module.end;
  record->bias = module.bias;
  record->path = intern_locked(module.path);
  record->build_id_bytes = 0;
  copy_build_id(module, *record);
  record->loaded_generation = loaded;
  record->unloaded_generation = 0;
  std::atomic_ref(record->state).store(1, std::memory_order_release);
  std::atomic_ref(file_->section(abi::kSectionModules).used)
      .store(index + 1, std::memory_order_release);

  known_[index].start.store(module.start, std::memory_order_relaxed);
  known_[index].end.store(module.end, std::memory_order_relaxed);
  known_[index].token.store(module.token, std::memory_order_relaxed);
  count_.store(index + 1, std::memory_order_release);  // pairs with is_known()
  generation_.store(loaded, std::memory_order_release);
  return true;
}

// Marks the modules whose place this one takes as unloaded; whether there were any.
bool ModuleTable::retire_overlapping_locked(const Module& module, uint32_t generation) {
  bool any = false;
  const uint32_t count = count_.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; ++i) {
    const uintptr_t start = known_[i].start.load(std::memory_order_relaxed);
    if (start == 0 || start >= module.end ||
        known_[i].end.load(std::memory_order_relaxed) <= module.start) {
      continue;
    }
    known_[i].start.store(0, std::memory_order_relaxed);
    std::atomic_ref(file_->modules()[i].unloaded_generation)
        .store(generation, std::memory_order_release);
    any = true;
  }
  return any;
}

// The path's offset in the strings; 0 ("") if there is no room.
uint32_t ModuleTable::intern_locked(const char* path) {
  const size_t bytes = strlen(path) + 1;
  const size_t room = abi::kStringsBytes - strings_used_;
  if (bytes == 1 || bytes > room)
    return 0;
  // A library that comes and goes is the one case in which a path returns.
  const uint32_t count = count_.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t known = file_->modules()[i].path;
    if (known < strings_used_ && bytes <= strings_used_ - known &&
        memcmp(file_->strings() + known, path, bytes) == 0) {
      return known;
    }
  }
  char* to = file_->strings() + strings_used_;
  if (!file_->ensure(to, bytes))
    return 0;
  memcpy(to, path, bytes);
  const uint32_t offset = strings_used_;
  strings_used_ += static_cast<uint32_t>(bytes);
  std::atomic_ref(file_->section(abi::kSectionStrings).used)
      .store(strings_used_, std::memory_order_release);
  return offset;
}

}  // namespace slabscope::diag
