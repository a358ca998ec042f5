// SPDX-License-Identifier: MIT
//
// The names that programs give to caches and groups: they stand in tables, labels and paths.

#pragma once

#include <cerrno>
#include <cstddef>

namespace slabscope {

// What could not be done: errno's value. 0 is success.
using Error = int;

inline constexpr size_t kGivenNameBytes = 64;  // with its NUL

// Whether a character may stand in a name.
inline bool is_name_character(char character) {
  const auto c = static_cast<unsigned char>(character);
  return c > ' ' && c != 0x7f && c != '/';
}

// 0, EINVAL or ENAMETOOLONG.
inline Error check_given_name(const char* name) {
  if (name == nullptr || name[0] == '\0')
    return EINVAL;
  for (size_t length = 0; name[length] != '\0'; ++length) {
    if (!is_name_character(name[length]))
      return EINVAL;
    if (length == kGivenNameBytes - 1)
      return ENAMETOOLONG;
  }
  return 0;
}

}  // namespace slabscope
