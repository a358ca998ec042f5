// SPDX-License-Identifier: MIT

#include "diag/libunwind_loader.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "diag/memory_probe.h"
#include "slab/base/compiler.h"
#include "slab/base/sys.h"
#include "slab/pages/vm.h"

extern "C" int _dl_find_object(void* address, struct dl_find_object* result) noexcept SC_WEAK;

namespace slabscope::diag {
namespace {

// ---- what libunwind gets instead of libc's functions ----------------------------------------

int fake_pipe2(int* ends, int) {
  ends[0] = ends[1] = -1;  // never a descriptor of anybody
  return 0;
}
// libunwind asks errno alone whether a call was interrupted, and does it again for ever if the
// program had left EINTR there: what succeeds must clear it. capture() puts the program's own back.
ssize_t fake_read(int, void*, size_t bytes) {
  errno = 0;
  return static_cast<ssize_t>(bytes);
}
int fake_close(int) {
  return 0;
}

// NOLINTNEXTLINE(cert-dcl50-cpp): stands for open(2), which is variadic.
int fake_open(const char*, int, ...) {
  errno = ENOENT;
  return -1;
}

// "Can you write from this address?": its way to ask whether it can be read.
ssize_t fake_write(int, const void* from, size_t bytes) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(from);
  errno = 0;
  if (is_readable(address & ~uintptr_t{7}))
    return static_cast<ssize_t>(bytes);
  errno = EFAULT;
  return -1;
}

// NOLINTNEXTLINE(cert-dcl50-cpp): stands for syscall(2), which is variadic.
long fake_syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long args[6];
  for (long& arg : args)
    arg = va_arg(list, long);
  va_end(list);
  if (number == SYS_write) {
    return fake_write(static_cast<int>(args[0]), reinterpret_cast<const void*>(args[1]),
                      static_cast<size_t>(args[2]));
  }
  const long result = sys::raw(number, args[0], args[1], args[2], args[3], args[4], args[5]);
  if (!sys::failed(result))
    return result;
  errno = static_cast<int>(-result);
  return -1;
}

using PhdrCallback = int (*)(dl_phdr_info*, size_t, void*);

// libunwind passes a struct whose first word is the address it looks for, and asks every module
// whether it holds it. Only the one that does is shown.
int find_phdr(PhdrCallback callback, void* data) {
  const uintptr_t pc = *static_cast<const uintptr_t*>(data);
  struct dl_find_object found {};
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0)
    return 0;
  const auto start = reinterpret_cast<uintptr_t>(found.dlfo_map_start);
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(start);
  if (!is_readable(start) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
    return 0;
  dl_phdr_info info{};
  info.dlpi_addr = found.dlfo_link_map->l_addr;
  info.dlpi_name = found.dlfo_link_map->l_name;
  info.dlpi_phdr = reinterpret_cast<const ElfW(Phdr)*>(start + header->e_phoff);
  info.dlpi_phnum = header->e_phnum;
  return callback(&info, sizeof info, data);
}

// ---- redirecting ----------------------------------------------------------------------------

// Its other question: are these pages there?
int fake_mincore(void* from, size_t bytes, unsigned char* pages) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(from);
  for (size_t done = 0; done < bytes; done += vm::kOsPage) {
    if (!is_readable(begin + done)) {
      errno = ENOMEM;
      return -1;
    }
    pages[done / vm::kOsPage] = 1;
  }
  return 0;
}

// libunwind blocks all signals while it holds its lock, in case a handler unwinds. Ours do not:
// capture() never re-enters in one thread. So the program's mask is left alone, which a sandbox may
// insist on.
int fake_sigprocmask(int, const void*, void*) {
  return 0;
}

struct Redirect {
  const char* name;
  void* function;
};

struct PltTables {
  const ElfW(Rela) * relocations = nullptr;
  size_t count = 0;
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  uintptr_t bias = 0;
  uintptr_t protected_start = 0;  // what RELRO made read-only
  uintptr_t protected_end = 0;
};

PltTables read_tables(const link_map& map) {
  PltTables tables;
  tables.bias = map.l_addr;
  for (const ElfW(Dyn)* entry = map.l_ld; entry->d_tag != DT_NULL; ++entry) {
    const uintptr_t value = entry->d_un.d_ptr;
    switch (entry->d_tag) {
      case DT_JMPREL:
        tables.relocations = reinterpret_cast<const ElfW(Rela)*>(value);
        break;
      case DT_PLTRELSZ:
        tables.count = value / sizeof(ElfW(Rela));
        break;
      case DT_SYMTAB:
        tables.symbols = reinterpret_cast<const ElfW(Sym)*>(value);
        break;
      case DT_STRTAB:
        tables.strings = reinterpret_cast<const char*>(value);
        break;
      default:
        break;
    }
  }
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(map.l_addr);
  const auto* program = reinterpret_cast<const ElfW(Phdr)*>(map.l_addr + header->e_phoff);
  for (unsigned i = 0; i < header->e_phnum; ++i) {
    if (program[i].p_type != PT_GNU_RELRO)
      continue;
    tables.protected_start = map.l_addr + program[i].p_vaddr;
    tables.protected_end = tables.protected_start + program[i].p_memsz;
  }
  return tables;
}

// The writable PLT slot of `name`, or null.
void** find_slot(const PltTables& tables, const char* name) {
  if (tables.relocations == nullptr || tables.symbols == nullptr || tables.strings == nullptr) {
    return nullptr;
  }
  for (size_t i = 0; i < tables.count; ++i) {
    const ElfW(Rela)& relocation = tables.relocations[i];
    const ElfW(Sym)& symbol = tables.symbols[ELF64_R_SYM(relocation.r_info)];
    if (strcmp(tables.strings + symbol.st_name, name) != 0)
      continue;
    const uintptr_t slot = tables.bias + relocation.r_offset;
    if (slot >= tables.protected_start && slot < tables.protected_end)
      return nullptr;
    return reinterpret_cast<void**>(slot);
  }
  return nullptr;
}

template <typename Function>
void* address_of(Function* function) {
  return reinterpret_cast<void*>(function);
}

void redirect(const link_map& map) {
  const PltTables tables = read_tables(map);
  // The pipe is the mark of the generation whose insides are known.
  if (find_slot(tables, "pipe2") == nullptr || find_slot(tables, "write") == nullptr)
    return;
  const Redirect redirects[] = {
      {"pipe2", address_of(fake_pipe2)},
      {"read", address_of(fake_read)},
      {"write", address_of(fake_write)},
      {"close", address_of(fake_close)},
      {"syscall", address_of(fake_syscall)},
      {"open", address_of(fake_open)},
      {"sigprocmask", address_of(fake_sigprocmask)},
      {"mincore", address_of(fake_mincore)},
  };
  for (const Redirect& one : redirects) {
    if (void** slot = find_slot(tables, one.name))
      *slot = one.function;
  }
  if (&_dl_find_object == nullptr)
    return;
  if (void** slot = find_slot(tables, "dl_iterate_phdr"))
    *slot = address_of(find_phdr);
}

}  // namespace

UnwBacktrace load_libunwind() {
  void* library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return nullptr;
  auto* backtrace = reinterpret_cast<UnwBacktrace>(dlsym(library, "unw_backtrace"));
  link_map* map = nullptr;
  if (backtrace == nullptr || dlinfo(library, RTLD_DI_LINKMAP, &map) != 0)
    return nullptr;
  redirect(*map);
  return backtrace;
}

}  // namespace slabscope::diag
