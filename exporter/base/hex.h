// SPDX-License-Identifier: MIT
//
// hex: bytes as lower-case hexadecimal digits, the way build-ids are written.

#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace slabscope {

inline std::string to_hex(std::span<const uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace slabscope
