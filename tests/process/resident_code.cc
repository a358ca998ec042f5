// SPDX-License-Identifier: MIT
//
// How much of the library's own code is in the memory of a process that allocates, starts threads,
// is sampled and is idle now and then: a window of 64 KiB, and what does not fit into it
// (preload/sections.ld). One call of a function that lies with the rare ones makes another window
// resident, in every process. Run again
// with SLABSCOPE_DIR and with a directory that the library chooses, where one start in 32 looks for
// files of ended processes, and is one of those that run rare code.
#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "tests/support/child.h"

using slabscope::test::again;
using slabscope::test::exited;
using slabscope::test::now_seconds;

namespace {

constexpr uintptr_t kPage = 4096;
constexpr uintptr_t kWindow = 65536;  // what the kernel maps at a fault
constexpr uintptr_t kMost = kWindow + 3 * kPage;
constexpr int kSkipped = 77;  // SKIP_RETURN_CODE

struct Mapping {
  uintptr_t low = 0;
  uintptr_t high = 0;
};

void churn(unsigned seed) {
  std::vector<void*> blocks(512);
  for (unsigned i = 0; i < 20'000; ++i) {
    seed = seed * 1664525 + 1013904223;
    void*& block = blocks[seed >> 8 & 511];
    const size_t size = seed >> 20 & 1 ? seed >> 17 & 0xfff : (seed >> 24) + 1;
    switch (seed >> 5 & 7) {
      case 0:
        block = realloc(block, size * 3 + 1);
        break;
      case 1:
        free(block);
        block = calloc(size, 2);
        break;
      case 2:
        free(block);
        block = aligned_alloc(64, (size + 64) & ~size_t{63});
        break;
      case 3:
        free(block);
        block = malloc(size << (seed >> 12 & 7));  // up to 512 KiB
        break;
      default:
        free(block);
        block = malloc(size);
    }
    SC_EXPECT(block != nullptr);
  }
  for (void* block : blocks)
    free(block);
}

Mapping code_of(const void* function) {
  FILE* maps = fopen("/proc/self/maps", "r");
  SC_EXPECT(maps != nullptr);
  char line[512];
  Mapping found;
  const auto address = reinterpret_cast<uintptr_t>(function);
  while (fgets(line, sizeof line, maps) != nullptr) {
    Mapping here;
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &here.low, &here.high) == 2 && here.low <= address &&
        address < here.high)
      found = here;
  }
  fclose(maps);
  return found;
}

bool is_resident(int pagemap, uintptr_t page) {
  uint64_t entry = 0;
  SC_EXPECT(pread(pagemap, &entry, sizeof entry, static_cast<off_t>(page / kPage * sizeof entry)) ==
            sizeof entry);
  return (entry >> 63U) != 0;
}

void use_default_directory() {
  const char* directory = getenv("SLABSCOPE_DIR");
  SC_EXPECT(directory != nullptr && setenv("XDG_RUNTIME_DIR", directory, 1) == 0);
  SC_EXPECT(unsetenv("SLABSCOPE_DIR") == 0);
}

// The exit code of a process that looks at itself.
int look() {
  const double end = now_seconds() + 0.5;
  unsigned rounds = 0;
  do {  // longer than the decay time, so that what is idle goes back meanwhile
    std::thread other(churn, ++rounds);
    churn(rounds * 77);
    other.join();
  } while (now_seconds() < end);

  Dl_info library;
  void* function = dlsym(RTLD_DEFAULT, "malloc");
  SC_EXPECT(function != nullptr && dladdr(function, &library) != 0);
  SC_EXPECT(strstr(library.dli_fname, "libslabscope") != nullptr);
  if (reinterpret_cast<uintptr_t>(library.dli_fbase) % kWindow != 0) {
    fprintf(stderr, "skipped: this kernel does not load the library at a multiple of 64 KiB\n");
    return kSkipped;
  }

  const Mapping code = code_of(function);
  const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  SC_EXPECT(code.high != 0 && pagemap >= 0);
  uintptr_t resident = 0;
  for (uintptr_t page = code.low; page < code.high; page += kPage) {
    if (is_resident(pagemap, page)) {
      resident += kPage;
      const auto from_base = page - reinterpret_cast<uintptr_t>(library.dli_fbase);
      if (page / kWindow < reinterpret_cast<uintptr_t>(function) / kWindow)
        fprintf(stderr, "resident, but before malloc's window: %#" PRIxPTR "\n", from_base);
    }
  }
  close(pagemap);
  fprintf(stderr, "%" PRIuPTR " of %" PRIuPTR " KiB of code are resident, after %u rounds\n",
          resident / 1024, (code.high - code.low) / 1024, rounds);
  return resident > 0 && resident <= kMost ? 0 : 1;
}

}  // namespace

int main(int argc, char**) {
  if (argc > 1)
    return look();
  const int status = again("look");
  if (exited(status, kSkipped))
    return kSkipped;
  SC_EXPECT(exited(status));
  constexpr int kStarts = 4;  // all of them among the one in 32: once in a million
  for (int i = 0; i < kStarts; ++i) {
    if (exited(again("look", use_default_directory)))
      return 0;
  }
  SC_EXPECT(!"rare code runs in every process that chooses its directory");
}
