// SPDX-License-Identifier: MIT

#include "slab/base/panic.h"

#include <unistd.h>

#include <cstdlib>

#include "slab/base/hooks.h"
#include "slab/base/sys.h"

namespace slabscope {

Line& Line::text(const char* string) {
  return text(string, kBytes);
}

Line& Line::text(const char* string, size_t limit) {
  for (size_t i = 0; i < limit && string[i] != '\0' && used_ < kBytes; ++i) {
    buffer_[used_++] = string[i];
  }
  return *this;
}

Line& Line::decimal(uint64_t value, unsigned width) {
  char digits[20];
  size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  for (; width > count && used_ < kBytes; --width)
    buffer_[used_++] = ' ';
  while (count > 0 && used_ < kBytes)
    buffer_[used_++] = digits[--count];
  return *this;
}

Line& Line::hex(uint64_t value) {
  text("0x");
  int shift = 60;
  while (shift > 0 && (value >> shift) == 0)
    shift -= 4;
  for (; shift >= 0 && used_ < kBytes; shift -= 4) {
    buffer_[used_++] = "0123456789abcdef"[(value >> shift) & 15];
  }
  return *this;
}

void panic(const char* what, const void* address, const char* detail) {
  Line line;
  line.text("slabscope: ").text(what).text(" ").hex(reinterpret_cast<uintptr_t>(address));
  if (detail != nullptr)
    line.text(" (").text(detail).text(")");
  line.text("\n");
  sys::write_all(STDERR_FILENO, line.data(), line.size());
  g_hooks.event({HeapEvent::Kind::kMisuse, 0, reinterpret_cast<uintptr_t>(address), what});
  abort();
}

void check_failed(const char* condition, const char* file, int line_number) {
  Line line;
  line.text("slabscope: internal error: ").text(condition).text(" (").text(file).text(":");
  line.decimal(static_cast<uint64_t>(line_number)).text(")\n");
  sys::write_all(STDERR_FILENO, line.data(), line.size());
  abort();
}

}  // namespace slabscope
