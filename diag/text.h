// SPDX-License-Identifier: MIT
//
// Text: a path or a name built in place: always NUL-terminated, and it knows when it was cut.

#pragma once

#include <cstddef>
#include <cstdint>

namespace slabscope::diag {

template <size_t kBytes>
class Text {
 public:
  Text& add(const char* string) {
    for (; *string != '\0'; ++string)
      put(*string);
    return *this;
  }
  Text& decimal(uint64_t value) {
    char digits[20];
    size_t count = 0;
    do {
      digits[count++] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    while (count > 0)
      put(digits[--count]);
    return *this;
  }
  // Sixteen digits.
  Text& hex(uint64_t value) {
    for (int shift = 60; shift >= 0; shift -= 4)
      put("0123456789abcdef"[(value >> shift) & 15]);
    return *this;
  }
  Text& put(char c) {
    if (used_ + 1 < kBytes) {
      text_[used_++] = c;
      text_[used_] = '\0';
    } else {
      cut_ = true;
    }
    return *this;
  }
  void clear() {
    used_ = 0;
    text_[0] = '\0';
    cut_ = false;
  }
  const char* c_str() const { return text_; }
  size_t size() const { return used_; }
  bool cut() const { return cut_; }

 private:
  char text_[kBytes]{};
  size_t used_ = 0;
  bool cut_ = false;
};

// Copies at most bytes - 1 characters of `from` (null: none) and ends them with NUL.
inline void copy_text(char* to, size_t bytes, const char* from) {
  size_t i = 0;
  if (from != nullptr) {
    for (; i + 1 < bytes && from[i] != '\0'; ++i)
      to[i] = from[i];
  }
  to[i] = '\0';
}

}  // namespace slabscope::diag
