// SPDX-License-Identifier: MIT
//
// Every C entry point of malloc(3) and its kin, at its limits: sizes, alignment, errno, overflow.
// What is expected is what glibc 2.36 does; the program passes on glibc too.
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "tests/support/check.h"

using slabscope::test::fill;
using slabscope::test::filled;
using slabscope::test::opaque;

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kTooLarge[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - kPage, SIZE_MAX / 2 + 1,
                                static_cast<size_t>(PTRDIFF_MAX) + 1};

bool aligned(const void* block, size_t alignment) {
  return reinterpret_cast<uintptr_t>(block) % alignment == 0;
}

void sizes() {
  for (size_t size = 0; size <= 70000; size += size < 2100 ? 1 : 97) {
    void* block = opaque(malloc(size));
    SC_EXPECT(block != nullptr && aligned(block, 16));
    SC_EXPECT(malloc_usable_size(block) >= size);
    fill(block, malloc_usable_size(block), static_cast<unsigned>(size));
    SC_EXPECT(filled(block, size, static_cast<unsigned>(size)));
    free(block);
  }
  for (size_t size = 64 << 10; size <= (256u << 20); size = size * 3 / 2) {
    auto* block = static_cast<char*>(opaque(malloc(size + 1)));
    SC_EXPECT(block != nullptr && aligned(block, 16) && malloc_usable_size(block) > size);
    block[0] = block[size] = 'x';
    free(block);
  }
  SC_EXPECT(malloc_usable_size(nullptr) == 0);
}

void zero_sizes_are_distinct_blocks() {
  void* first = opaque(malloc(0));
  void* second = opaque(malloc(0));
  SC_EXPECT(first != nullptr && second != nullptr && first != second);
  free(first);
  free(second);
  void* third = opaque(calloc(0, 8));
  void* fourth = opaque(calloc(8, 0));
  SC_EXPECT(third != nullptr && fourth != nullptr && third != fourth);
  free(third);
  free(fourth);
}

void errno_is_left_alone() {
  for (size_t size : {size_t{1}, size_t{100}, size_t{40000}, size_t{1} << 20, size_t{64} << 20}) {
    errno = 4711;
    void* block = opaque(malloc(size));
    SC_EXPECT(block != nullptr && errno == 4711);
    block = opaque(realloc(block, size * 2));
    SC_EXPECT(block != nullptr && errno == 4711);
    free(block);
    SC_EXPECT(errno == 4711);
  }
  free(nullptr);
  SC_EXPECT(errno == 4711);
}

template <typename Call>
void expect_no_memory(Call call) {
  errno = 0;
  SC_EXPECT(opaque(call()) == nullptr);
  SC_EXPECT(errno == ENOMEM);
}

void too_large() {
  void* kept = opaque(malloc(100));
  fill(kept, 100, 5);
  for (size_t raw : kTooLarge) {
    const size_t size = opaque(raw);
    expect_no_memory([&] { return malloc(size); });
    expect_no_memory([&] { return calloc(1, size); });
    expect_no_memory([&] { return calloc(size, 1); });
    expect_no_memory([&] { return realloc(nullptr, size); });
    expect_no_memory([&] { return realloc(opaque(kept), size); });
    expect_no_memory([&] { return reallocarray(opaque(kept), size, 1); });
    expect_no_memory([&] { return memalign(64, size); });
    expect_no_memory([&] { return aligned_alloc(kPage, size); });
    expect_no_memory([&] { return valloc(size); });
    expect_no_memory([&] { return pvalloc(size); });
    void* untouched = kept;
    SC_EXPECT(posix_memalign(&untouched, 64, size) == ENOMEM && untouched == kept);
  }
  const size_t half = opaque(size_t{1} << 33);
  expect_no_memory([&] { return calloc(half, half); });
  expect_no_memory([&] { return reallocarray(opaque(kept), half, half); });
  expect_no_memory([&] { return calloc(opaque(SIZE_MAX / 2), 3); });
  SC_EXPECT(filled(kept, 100, 5));
  free(kept);
}

void calloc_gives_zeroes() {
  for (size_t size : {1U, 8U, 100U, 1000U, 5000U, 40000U, 300000U, 5U << 20}) {
    for (int round = 0; round < 20; ++round) {
      auto* block = static_cast<unsigned char*>(opaque(calloc(size, 1)));
      SC_EXPECT(block != nullptr);
      for (size_t i = 0; i < malloc_usable_size(block) && i < size; ++i) {
        SC_EXPECT(block[i] == 0);
      }
      memset(block, 0xa5, size);
      free(block);
    }
  }
}

void realloc_keeps_contents() {
  size_t size = 1;
  void* block = opaque(realloc(nullptr, size));
  fill(block, size, 9);
  while (size < (64u << 20)) {
    const size_t larger = size + size / 3 + 1;
    block = opaque(realloc(block, larger));
    SC_EXPECT(block != nullptr && aligned(block, 16));
    SC_EXPECT(filled(block, size < 4096 ? size : 4096, 9));
    fill(block, larger < 4096 ? larger : 4096, 9);
    if (larger > 4096) {
      static_cast<unsigned char*>(block)[larger - 1] = 77;
    }
    size = larger;
  }
  while (size > 8) {
    size = size * 2 / 5;
    block = opaque(realloc(block, size));
    SC_EXPECT(block != nullptr && filled(block, size < 4096 ? size : 4096, 9));
  }
  errno = 0;
  SC_EXPECT(opaque(realloc(block, opaque(size_t{0}))) == nullptr);
  SC_EXPECT(errno == 0);
  block = opaque(reallocarray(nullptr, 10, 10));
  SC_EXPECT(block != nullptr && malloc_usable_size(block) >= 100);
  SC_EXPECT(opaque(reallocarray(block, opaque(size_t{0}), 10)) == nullptr);
}

void alignments() {
  for (size_t alignment = 8; alignment <= (8u << 20); alignment *= 2) {
    for (size_t size : {size_t{0}, size_t{1}, size_t{24}, size_t{1000}, size_t{70000}}) {
      void* block = nullptr;
      SC_EXPECT(posix_memalign(&block, alignment, size) == 0);
      SC_EXPECT(block != nullptr && aligned(block, alignment));
      fill(block, size, 3);
      block = opaque(realloc(block, size + 40));
      SC_EXPECT(filled(block, size, 3));
      free(block);
      block = opaque(memalign(alignment, size));
      SC_EXPECT(block != nullptr && aligned(block, alignment));
      SC_EXPECT(malloc_usable_size(block) >= size);
      free(block);
      block = opaque(aligned_alloc(alignment, (size / alignment + 1) * alignment));
      SC_EXPECT(block != nullptr && aligned(block, alignment));
      free(block);
    }
  }
  void* untouched = &untouched;
  errno = 4711;
  for (size_t bad : {size_t{0}, size_t{1}, size_t{4}, size_t{3}, size_t{24}, size_t{48}}) {
    SC_EXPECT(posix_memalign(&untouched, opaque(bad), 10) == EINVAL);
    SC_EXPECT(untouched == &untouched && errno == 4711);
  }
  void* block = opaque(valloc(10));
  SC_EXPECT(block != nullptr && aligned(block, kPage));
  free(block);
  block = opaque(pvalloc(10));
  SC_EXPECT(block != nullptr && aligned(block, kPage) && malloc_usable_size(block) >= kPage);
  memset(block, 1, kPage);
  free(block);
}

// memalign rounds a crooked alignment up to a power of two; one that cannot be had is refused.
void crooked_alignments() {
  for (size_t crooked : {size_t{0}, size_t{1}, size_t{3}, size_t{24}, size_t{100}}) {
    void* block = opaque(memalign(opaque(crooked), 50));
    SC_EXPECT(block != nullptr && aligned(block, 16));
    SC_EXPECT(crooked <= 1 ||
              aligned(block, crooked == 3    ? 4
                             : crooked == 24 ? 32
                                             : 128) ||
              crooked == 0);
    free(block);
  }
  errno = 0;
  SC_EXPECT(opaque(memalign(opaque(SIZE_MAX), 8)) == nullptr);
  SC_EXPECT(errno == EINVAL || errno == ENOMEM);
}

// Symbols that programs look for by name; those that report must return, those that tune may
// refuse.
void by_name() {
  for (const char* name :
       {"malloc", "calloc", "realloc", "free", "memalign", "aligned_alloc", "posix_memalign",
        "valloc", "pvalloc", "reallocarray", "malloc_usable_size", "mallinfo", "mallinfo2",
        "malloc_stats", "malloc_info", "malloc_trim", "mallopt"}) {
    if (dlsym(RTLD_DEFAULT, name) == nullptr) {
      slabscope::test::tell(name);
      slabscope::test::tell(" cannot be found with dlsym\n");
      _exit(1);
    }
  }
  void* block = malloc(1000);
  const struct mallinfo2 info = mallinfo2();
  SC_EXPECT(info.uordblks > 0 && info.uordblks < (size_t{1} << 40));
  free(block);
  const int trimmed = malloc_trim(0);
  const int set = mallopt(M_MMAP_THRESHOLD, 1 << 20);
  SC_EXPECT((trimmed == 0 || trimmed == 1) && (set == 0 || set == 1));
  char text[65536] = {};
  FILE* memory = fmemopen(text, sizeof text - 1, "w");
  SC_EXPECT(memory != nullptr && malloc_info(0, memory) == 0);
  fclose(memory);
  SC_EXPECT(strncmp(text, "<malloc version=", 16) == 0 && strstr(text, "</malloc>") != nullptr);
  errno = 0;
  SC_EXPECT(malloc_info(1, stdout) == EINVAL || errno == EINVAL);
}

// C23, and cfree of old: found by programs that ask at run time; glibc 2.36 has none of them.
void by_name_if_preloaded() {
  if (!slabscope::test::preloaded()) {
    return;
  }
  using Free = void (*)(void*);
  using FreeSized = void (*)(void*, size_t);
  using FreeAlignedSized = void (*)(void*, size_t, size_t);
  auto cfree_function = reinterpret_cast<Free>(dlsym(RTLD_DEFAULT, "cfree"));
  auto free_sized = reinterpret_cast<FreeSized>(dlsym(RTLD_DEFAULT, "free_sized"));
  auto free_aligned_sized =
      reinterpret_cast<FreeAlignedSized>(dlsym(RTLD_DEFAULT, "free_aligned_sized"));
  SC_EXPECT(cfree_function != nullptr && free_sized != nullptr && free_aligned_sized != nullptr);
  for (size_t size : {size_t{1}, size_t{100}, size_t{50000}, size_t{3} << 20}) {
    errno = 4711;
    cfree_function(opaque(malloc(size)));
    free_sized(opaque(malloc(size)), size);
    free_aligned_sized(opaque(aligned_alloc(256, size)), 256, size);
    SC_EXPECT(errno == 4711);
  }
  free_sized(nullptr, 0);
  free_aligned_sized(nullptr, 16, 0);
}

// Blocks that libc's own functions allocate come from the same malloc that frees them.
void libc_allocates_for_us() {
  for (int i = 0; i < 1000; ++i) {
    char* copy = strdup("a string of thirty characters.");
    char* formatted = nullptr;
    SC_EXPECT(copy != nullptr && asprintf(&formatted, "%s %d", copy, i) > 30);
    copy = static_cast<char*>(realloc(copy, 1000));
    SC_EXPECT(copy != nullptr && strcmp(copy, "a string of thirty characters.") == 0);
    free(copy);
    free(formatted);
  }
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  sizes();
  zero_sizes_are_distinct_blocks();
  errno_is_left_alone();
  too_large();
  calloc_gives_zeroes();
  realloc_keeps_contents();
  alignments();
  crooked_alignments();
  by_name();
  by_name_if_preloaded();
  libc_allocates_for_us();
  return 0;
}
