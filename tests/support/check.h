// SPDX-License-Identifier: MIT
//
// SC_EXPECT for whole-process test programs: they run with the allocator under test as their
// malloc, so a failed expectation is told without allocating, and ends the process at once.
#pragma once

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace slabscope::test {

inline void tell(const char* text) {
  if (write(STDERR_FILENO, text, strlen(text)) < 0) {
    _exit(2);
  }
}

inline void tell_number(uintmax_t value) {
  char digits[24];
  char* at = digits + sizeof digits - 1;
  *at = '\0';
  do {
    *--at = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  tell(at);
}

[[noreturn]] inline void fail(const char* file, int line, const char* condition) {
  const int error = errno;
  tell(file);
  tell(":");
  tell_number(static_cast<uintmax_t>(line));
  tell(": expected ");
  tell(condition);
  tell(" (errno ");
  tell_number(static_cast<uintmax_t>(error));
  tell(")\n");
  _exit(1);
}

// Whose malloc this program calls.
[[nodiscard]] inline bool preloaded() {
  Dl_info info{};
  return dladdr(reinterpret_cast<void*>(&malloc), &info) != 0 && info.dli_fname != nullptr &&
         strstr(info.dli_fname, "libslabscope") != nullptr;
}

// If a preload was asked for, it is really there: the loader only warns when it cannot load it.
inline void expect_preload() {
  const char* preload = getenv("LD_PRELOAD");
  if (preload != nullptr && strstr(preload, "libslabscope") != nullptr && !preloaded()) {
    tell("libslabscope.so was not preloaded\n");
    _exit(1);
  }
}

// Hides a value from the optimizer: the call that made it, and the stores through it, must happen.
template <typename T>
inline T* opaque(T* pointer) {
  asm volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

inline size_t opaque(size_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

// A block's contents depend on its own tag, so that a block handed out twice shows.
inline void fill(void* block, size_t bytes, unsigned tag) {
  auto* byte = static_cast<unsigned char*>(block);
  for (size_t i = 0; i < bytes; ++i) {
    byte[i] = static_cast<unsigned char>(tag + i * 7);
  }
}

[[nodiscard]] inline bool filled(const void* block, size_t bytes, unsigned tag) {
  const auto* byte = static_cast<const unsigned char*>(block);
  for (size_t i = 0; i < bytes; ++i) {
    if (byte[i] != static_cast<unsigned char>(tag + i * 7)) {
      return false;
    }
  }
  return true;
}

}  // namespace slabscope::test

#define SC_EXPECT(condition)                                        \
  do {                                                              \
    if (!(condition)) {                                             \
      ::slabscope::test::fail(__FILE_NAME__, __LINE__, #condition); \
    }                                                               \
  } while (false)
