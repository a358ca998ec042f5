// SPDX-License-Identifier: MIT

#include "exporter/base/text.h"

#include <array>
#include <cstddef>

namespace slabscope {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Decoded {
  uint32_t code_point = 0;
  size_t bytes = 0;  // 0: not valid UTF-8
};

// One code point at the front of `text`; overlong forms and surrogates are invalid (RFC 3629).
Decoded decode(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) {
    return {lead, 1};
  }
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) {
    return {};
  }
  uint32_t code_point = lead & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xc0) != 0x80) {
      return {};
    }
    code_point = (code_point << 6) | (byte & 0x3fu);
  }
  constexpr std::array<uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  if (code_point < kSmallest[length] || code_point > 0x10ffff || surrogate) {
    return {};
  }
  return {code_point, length};
}

// Control characters, and the ones that reorder the text around them.
bool is_unprintable(uint32_t code_point) {
  return code_point < 0x20 || (code_point >= 0x7f && code_point <= 0x9f) ||
         (code_point >= 0x200e && code_point <= 0x200f) ||
         (code_point >= 0x2028 && code_point <= 0x202e) ||
         (code_point >= 0x2066 && code_point <= 0x2069) || code_point == 0xfeff;
}

}  // namespace

std::string printable_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Decoded next = decode(bytes);
    if (next.bytes == 0 || is_unprintable(next.code_point)) {
      text += kReplacement;
    } else {
      text += bytes.substr(0, next.bytes);
    }
    bytes.remove_prefix(next.bytes == 0 ? 1 : next.bytes);
  }
  return text;
}

size_t display_width(std::string_view text) {
  size_t width = 0;
  for (const char c : text) {
    width += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }
  return width;
}

std::string human_bytes(uint64_t bytes) {
  constexpr std::string_view kUnits = "KMGTPE";
  if (bytes < 1024) {
    return std::to_string(bytes);
  }
  size_t unit = 0;
  uint64_t divisor = 1024;
  while (unit + 1 < kUnits.size() && bytes / divisor >= 1024) {
    divisor *= 1024;
    ++unit;
  }
  const uint64_t whole = bytes / divisor;
  std::string text = std::to_string(whole);
  if (whole < 10) {
    text += '.';
    text += static_cast<char>('0' + (bytes % divisor) * 10 / divisor);
  }
  return text + kUnits[unit];
}

std::string human_duration(uint64_t seconds) {
  struct Unit {
    uint64_t seconds;
    char letter;
  };
  constexpr std::array<Unit, 4> kUnits = {{{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}}};
  for (size_t i = 0; i + 1 < kUnits.size(); ++i) {
    if (seconds >= kUnits[i].seconds) {
      return std::to_string(seconds / kUnits[i].seconds) + kUnits[i].letter +
             std::to_string(seconds % kUnits[i].seconds / kUnits[i + 1].seconds) +
             kUnits[i + 1].letter;
    }
  }
  return std::to_string(seconds) + 's';
}

std::string_view next_field(std::string_view& rest, char separator) {
  const size_t end = std::min(rest.find(separator), rest.size());
  const std::string_view field = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return field;
}

std::string_view base_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

std::string html_escape(std::string_view bytes) {
  std::string escaped;
  for (const char c : printable_utf8(bytes)) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

}  // namespace slabscope
