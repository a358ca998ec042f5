// SPDX-License-Identifier: MIT

#include "diag/cfi_bytes.h"

namespace slabscope::diag {

int64_t ByteCursor::sleb() {
  Leb read = leb();
  if (read.negative && read.bits < 64)
    read.value |= ~uint64_t{0} << read.bits;
  return static_cast<int64_t>(read.value);
}

uintptr_t ByteCursor::pointer(uint8_t encoding) {
  const uintptr_t base = at_;
  const uintptr_t value = pointer_value(encoding);
  switch (encoding & kPointerBase) {
    case 0:
      return value;
    case kPcRelative:
      return base + value;
    default:
      fail();
      return 0;
  }
}

uintptr_t ByteCursor::pointer_value(uint8_t encoding) {
  switch (encoding & kPointerFormat) {
    case 0x00:  // absptr
    case 0x04:  // udata8
    case 0x0c:  // sdata8
      return fixed<uint64_t>();
    case 0x01:
      return uleb();
    case 0x02:
      return fixed<uint16_t>();
    case 0x03:
      return u32();
    case 0x09:
      return static_cast<uintptr_t>(sleb());
    case 0x0a:
      return static_cast<uintptr_t>(static_cast<intptr_t>(fixed<int16_t>()));
    case 0x0b:
      return static_cast<uintptr_t>(static_cast<intptr_t>(fixed<int32_t>()));
    default:
      fail();
      return 0;
  }
}

ByteCursor::Leb ByteCursor::leb() {
  Leb read;
  for (unsigned i = 0; i < 10; ++i) {
    const uint8_t byte = u8();
    read.value |= static_cast<uint64_t>(byte & 0x7fU) << read.bits;
    read.bits += 7;
    read.negative = (byte & 0x40U) != 0;
    if ((byte & 0x80U) == 0)
      return read;
  }
  fail();
  return {};
}

}  // namespace slabscope::diag
