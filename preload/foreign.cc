// SPDX-License-Identifier: MIT

#include "preload/foreign.h"

#include <errno.h>

#include <cstdint>

#include "diag/memory_probe.h"
#include "slab/base/compiler.h"
#include "slab/base/sys.h"

extern "C" SC_WEAK void __libc_free(void* block);

namespace slabscope {
namespace {

// glibc's chunk: the word before a block holds its size and three flags (malloc/malloc.c, 2.36).
constexpr size_t kFlagPreviousInUse = 1;
constexpr size_t kFlagMapped = 2;
constexpr size_t kFlagOtherArena = 4;
constexpr size_t kFlags = 7;
constexpr size_t kLeastChunk = 32;
constexpr uintptr_t kArenaBytes = uintptr_t{64} << 20;  // HEAP_MAX_SIZE

// A pointer within this much above our own frame points into the stack.
constexpr uintptr_t kStackNear = 64 << 10;

uintptr_t program_break() {
  return static_cast<uintptr_t>(sys::raw(SYS_brk));
}

size_t word_at(uintptr_t address) {
  return *reinterpret_cast<const size_t*>(address);
}

// The chunk's size with its flags, 0 if there cannot be a chunk.
size_t chunk_word(const void* block) {
  const auto address = reinterpret_cast<uintptr_t>(block);
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  if (address % 16 != 0 || address < 4096)
    return 0;
  if (address >= here && address - here < kStackNear)
    return 0;
  if (!diag::is_readable(address - 16) || !diag::is_readable(address))
    return 0;
  const size_t word = word_at(address - 8);
  const size_t size = word & ~kFlags;
  if (size < kLeastChunk || size % 16 != 0)
    return 0;
  if ((word & kFlagMapped) != 0) {
    return (address - 16 - word_at(address - 16)) % 4096 == 0 ? word : 0;
  }
  const uintptr_t next = address - 16 + size;
  if ((word & kFlagOtherArena) != 0) {
    return address % kArenaBytes + size <= kArenaBytes &&
                   diag::is_readable(address & ~(kArenaBytes - 1))
               ? word
               : 0;
  }
  if (next > program_break() || next < address || !diag::is_readable(next + 8))
    return 0;
  return (word_at(next + 8) & kFlagPreviousInUse) != 0 ? word : 0;
}

}  // namespace

bool foreign_free(void* block) {
  if (__libc_free == nullptr || chunk_word(block) == 0)
    return false;
  const int kept = errno;
  __libc_free(block);
  errno = kept;
  return true;
}

size_t foreign_size(void* block) {
  const size_t word = chunk_word(block);
  if (word == 0)
    return 0;
  const size_t size = word & ~kFlags;
  return size - ((word & kFlagMapped) != 0 ? 16 : 8);
}

}  // namespace slabscope
