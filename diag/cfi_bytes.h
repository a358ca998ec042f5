// SPDX-License-Identifier: MIT
//
// ByteCursor: reads the encodings of .eh_frame from a range of bytes and never outside it.
//
//   low ... [at ── u8, u32, LEB128, encoded pointer ──►] ... end
//                      └ what does not fit: 0, ok() is false from then on
//
// Invariants
//   1. No byte at or beyond `end` is read; a failed cursor stands at `end`.     (fuzz test)
//   2. A LEB128 is at most ten bytes long, so no read is longer than that.
// Called from: cfi_rules.cc, cfi_expression.cc. Sources: DWARF 5, 7.6 (LEB128); LSB 5.0 Core,
// 10.5 (pointer encodings). Addresses are integers: the bytes belong to other objects.

#pragma once

#include <cstdint>
#include <cstring>

#include "slab/base/compiler.h"

namespace slabscope::diag {

// Readable bytes: [low, high).
struct ByteRange {
  uintptr_t low = 0;
  uintptr_t high = 0;

  [[nodiscard]] bool contains(uintptr_t address) const { return address - low < high - low; }
};

class ByteCursor {
 public:
  // DW_EH_PE_*: the low four bits say how it is written, the next three what it is relative to.
  static constexpr uint8_t kPointerFormat = 0x0f;
  static constexpr uint8_t kPointerBase = 0xf0;
  static constexpr uint8_t kPcRelative = 0x10;

  explicit ByteCursor(ByteRange bytes) : at_(bytes.low), end_(bytes.high) {
    if (at_ > end_)
      fail();
  }

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return at_ == end_; }
  [[nodiscard]] uintptr_t at() const { return at_; }
  [[nodiscard]] ByteRange rest() const { return {at_, end_}; }

  template <typename T>
  [[nodiscard]] SC_INLINE T fixed() {
    T value{};
    if (end_ - at_ < sizeof(T)) {
      fail();
      return value;
    }
    memcpy(&value, reinterpret_cast<const void*>(at_), sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  [[nodiscard]] SC_INLINE uint8_t u8() { return fixed<uint8_t>(); }
  [[nodiscard]] SC_INLINE uint32_t u32() { return fixed<uint32_t>(); }

  [[nodiscard]] uint64_t uleb() { return leb().value; }
  [[nodiscard]] int64_t sleb();

  void skip(uint64_t bytes) {
    if (end_ - at_ < bytes)
      fail();
    else
      at_ += bytes;
  }

  // Goes `bytes` forwards or, negative, backwards, but not before `low`.
  void jump(int64_t bytes, uintptr_t low) {
    const uintptr_t target = at_ + static_cast<uintptr_t>(bytes);
    if (target < low || target > end_)
      fail();
    else
      at_ = target;
  }

  // A pointer written as `encoding` says; only absolute and pc-relative ones.
  [[nodiscard]] uintptr_t pointer(uint8_t encoding);

  // The same, but what it is relative to is ignored: for lengths, and for what is only skipped.
  [[nodiscard]] uintptr_t pointer_value(uint8_t encoding);

 private:
  struct Leb {
    uint64_t value = 0;
    unsigned bits = 0;
    bool negative = false;
  };

  Leb leb();

  void fail() {
    ok_ = false;
    at_ = end_;
  }

  uintptr_t at_;
  uintptr_t end_;
  bool ok_ = true;
};

}  // namespace slabscope::diag
