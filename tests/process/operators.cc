// SPDX-License-Identifier: MIT
//
// All twenty forms of operator new and delete, the new_handler loop and bad_alloc, in a program
// that uses libstdc++.
#include <malloc.h>

#include <memory>
#include <new>
#include <string>
#include <vector>

#include "tests/support/check.h"

using slabscope::test::opaque;

namespace {

constexpr std::align_val_t kAligned{256};
constexpr size_t kHuge = PTRDIFF_MAX;

bool aligned(const void* block, std::align_val_t alignment) {
  return reinterpret_cast<uintptr_t>(block) % static_cast<size_t>(alignment) == 0;
}

void* got(void* block, size_t size) {
  block = opaque(block);
  SC_EXPECT(block != nullptr && malloc_usable_size(block) >= size &&
            aligned(block, std::align_val_t{16}));
  slabscope::test::fill(block, size, 1);
  return block;
}

void every_form(size_t size) {
  ::operator delete(got(::operator new(size), size));
  ::operator delete(got(::operator new(size), size), size);
  ::operator delete(got(::operator new(size, std::nothrow), size), std::nothrow);
  ::operator delete[](got(::operator new[](size), size));
  ::operator delete[](got(::operator new[](size), size), size);
  ::operator delete[](got(::operator new[](size, std::nothrow), size), std::nothrow);
  void* block = got(::operator new(size, kAligned), size);
  SC_EXPECT(aligned(block, kAligned));
  ::operator delete(block, kAligned);
  block = got(::operator new(size, kAligned), size);
  ::operator delete(block, size, kAligned);
  block = got(::operator new(size, kAligned, std::nothrow), size);
  SC_EXPECT(aligned(block, kAligned));
  ::operator delete(block, kAligned, std::nothrow);
  block = got(::operator new[](size, kAligned), size);
  SC_EXPECT(aligned(block, kAligned));
  ::operator delete[](block, kAligned);
  block = got(::operator new[](size, kAligned), size);
  ::operator delete[](block, size, kAligned);
  block = got(::operator new[](size, kAligned, std::nothrow), size);
  ::operator delete[](block, kAligned, std::nothrow);
  ::operator delete(static_cast<void*>(nullptr));
  ::operator delete[](static_cast<void*>(nullptr));
}

// new and malloc are one allocator here, as in glibc: programs mix them, wrongly but widely.
void mixed_with_malloc() {
  free(got(::operator new(100), 100));
  ::operator delete(got(malloc(100), 100));
}

template <typename Call>
bool throws_bad_alloc(Call call) {
  try {
    opaque(call());
  } catch (const std::bad_alloc&) {
    return true;
  }
  return false;
}

void failure_throws() {
  const size_t huge = opaque(kHuge);
  SC_EXPECT(throws_bad_alloc([&] { return ::operator new(huge); }));
  SC_EXPECT(throws_bad_alloc([&] { return ::operator new[](huge); }));
  SC_EXPECT(throws_bad_alloc([&] { return ::operator new(huge, kAligned); }));
  SC_EXPECT(throws_bad_alloc([&] { return ::operator new[](huge, kAligned); }));
  SC_EXPECT(opaque(::operator new(huge, std::nothrow)) == nullptr);
  SC_EXPECT(opaque(::operator new[](huge, std::nothrow)) == nullptr);
  SC_EXPECT(opaque(::operator new(huge, kAligned, std::nothrow)) == nullptr);
  SC_EXPECT(opaque(::operator new[](huge, kAligned, std::nothrow)) == nullptr);
}

int g_handler_calls = 0;

void handler_that_gives_up() {
  if (++g_handler_calls == 3) {
    std::set_new_handler(nullptr);
  }
}

void handler_that_throws() {
  ++g_handler_calls;
  throw std::bad_alloc();
}

void new_handler_is_asked() {
  const size_t huge = opaque(kHuge);
  g_handler_calls = 0;
  std::set_new_handler(handler_that_gives_up);
  SC_EXPECT(throws_bad_alloc([&] { return ::operator new(huge); }));
  SC_EXPECT(g_handler_calls == 3 && std::get_new_handler() == nullptr);
  g_handler_calls = 0;
  std::set_new_handler(handler_that_gives_up);
  SC_EXPECT(opaque(::operator new(huge, std::nothrow)) == nullptr && g_handler_calls == 3);
  g_handler_calls = 0;
  std::set_new_handler(handler_that_throws);
  SC_EXPECT(throws_bad_alloc([&] { return ::operator new[](huge, kAligned); }));
  SC_EXPECT(opaque(::operator new(huge, std::nothrow)) == nullptr);
  SC_EXPECT(g_handler_calls == 2);
  std::set_new_handler(nullptr);
}

struct alignas(64) Wide {
  char bytes[192];
};

void containers() {
  std::vector<std::string> strings;
  std::vector<std::unique_ptr<Wide>> wide;
  for (size_t i = 0; i < 20000; ++i) {
    strings.push_back(std::string(i % 300, 'x'));
    wide.push_back(std::make_unique<Wide>());
    SC_EXPECT(aligned(wide.back().get(), std::align_val_t{64}));
  }
  for (size_t i = 0; i < strings.size(); ++i) {
    SC_EXPECT(strings[i].size() == i % 300);
  }
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  for (size_t size :
       {size_t{0}, size_t{1}, size_t{100}, size_t{5000}, size_t{100000}, size_t{3} << 20}) {
    every_form(size);
  }
  mixed_with_malloc();
  failure_throws();
  new_handler_is_asked();
  containers();
  return 0;
}
