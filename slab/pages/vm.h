// SPDX-License-Identifier: MIT
//
// vm: the only caller of mmap, munmap, madvise and mremap for the heap's memory.
//
// All sizes and addresses are multiples of kOsPage. Failures are values (nullptr, false): what to
// do about them is decided above. Thread-safe; never allocates; calls the kernel directly.

#pragma once

#include <cstddef>
#include <cstdint>

namespace slabscope::vm {

inline constexpr size_t kOsPage = 4096;

// Fresh zeroed private memory, readable and writable, anywhere; nullptr if there is none.
[[nodiscard]] void* map(size_t bytes);

// The same exactly at `address`; false if something is mapped there already or memory is short.
[[nodiscard]] bool map_at(void* address, size_t bytes);

// Address space that reads as zeroes and costs no commit charge until make_writable().
[[nodiscard]] void* reserve_readable(size_t bytes);
[[nodiscard]] bool make_writable(void* address, size_t bytes);

void unmap(void* address, size_t bytes);

// Gives the pages back at once; they read as zeroes again. False if the kernel refused: the
// contents are then unchanged.
[[nodiscard]] bool purge(void* address, size_t bytes);

// Moves or grows a mapping made by map(); nullptr if the kernel refused (nothing changed).
[[nodiscard]] void* remap(void* address, size_t old_bytes, size_t new_bytes);

// Moves the pages of [from, from + bytes) to [to, to + bytes), whose own are dropped; what is left
// behind stays mapped and reads as zeroes. False if the kernel refused (before 5.7 it always does):
// `from` is as it was, but `to` may have been unmapped (kernels up to 6.16 or so unmap it first).
[[nodiscard]] bool move_pages(void* from, void* to, size_t bytes);

// Fresh zeroed memory at `address`, whatever was there. False: what is there is unknown.
[[nodiscard]] bool map_over(void* address, size_t bytes);

// Keeps a table's pages out of core dumps; best effort.
void exclude_from_dumps(void* address, size_t bytes);

// The limit on address space (RLIMIT_AS) in bytes, or SIZE_MAX.
size_t address_space_limit();

}  // namespace slabscope::vm
