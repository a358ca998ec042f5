// SPDX-License-Identifier: MIT
//
// ProtobufWriter: the wire format of Protocol Buffers, as much of it as a profile needs.
//
//   field  = key varint (number << 3 | wire type), then
//            wire type 0: a varint, seven bits a byte, lowest first
//            wire type 2: a length as varint, and so many bytes: texts, messages, packed varints
//
// A field whose value is 0 or empty is left out, as proto3 does it; a list never is.
// Rejected: libprotobuf, 3 MB and a compiler in the build for one message that never changes.

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace slabscope {

class ProtobufWriter {
 public:
  void number(uint32_t field, uint64_t value) {
    if (value != 0) {
      key(field, kVarint);
      varint(value, bytes_);
    }
  }
  void text(uint32_t field, std::string_view value) {
    key(field, kBytes);
    varint(value.size(), bytes_);
    bytes_ += value;
  }
  void message(uint32_t field, const ProtobufWriter& value) { text(field, value.bytes_); }
  void packed(uint32_t field, std::span<const uint64_t> values) {
    std::string list;
    for (const uint64_t value : values) {
      varint(value, list);
    }
    text(field, list);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  static constexpr uint32_t kVarint = 0;
  static constexpr uint32_t kBytes = 2;

  static void varint(uint64_t value, std::string& to) {
    while (value >= 0x80) {
      to += static_cast<char>((value & 0x7f) | 0x80);
      value >>= 7;
    }
    to += static_cast<char>(value);
  }
  void key(uint32_t field, uint32_t type) { varint(uint64_t{field} << 3 | type, bytes_); }

  std::string bytes_;
};

}  // namespace slabscope
