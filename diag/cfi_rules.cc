// SPDX-License-Identifier: MIT

#include "diag/cfi_rules.h"

#include "slab/base/compiler.h"

namespace slabscope::diag {
namespace {

constexpr unsigned kMaxInstructions = 4096;
// Nobody nests them: one deep in glibc, libstdc++, OpenSSL, gdb. Each costs 76 bytes of stack.
constexpr unsigned kMaxRemembered = 2;

constexpr uint8_t kIndexVersion = 1;
constexpr uint8_t kUdata4 = 0x03;
constexpr uint8_t kDataRelativeSdata4 = 0x3b;  // DW_EH_PE_datarel | DW_EH_PE_sdata4

// DW_CFA_*
enum Instruction : uint8_t {
  kNop = 0x00,
  kSetLoc = 0x01,
  kAdvanceLoc1 = 0x02,
  kAdvanceLoc2 = 0x03,
  kAdvanceLoc4 = 0x04,
  kOffsetExtended = 0x05,
  kRestoreExtended = 0x06,
  kUndefined = 0x07,
  kSameValue = 0x08,
  kRegister = 0x09,
  kRememberState = 0x0a,
  kRestoreState = 0x0b,
  kDefCfa = 0x0c,
  kDefCfaRegister = 0x0d,
  kDefCfaOffset = 0x0e,
  kDefCfaExpression = 0x0f,
  kExpression = 0x10,
  kOffsetExtendedSf = 0x11,
  kDefCfaSf = 0x12,
  kDefCfaOffsetSf = 0x13,
  kValOffset = 0x14,
  kValOffsetSf = 0x15,
  kValExpression = 0x16,
  kGnuArgsSize = 0x2e,
  // The upper two bits; the lower six are the operand.
  kAdvanceLoc = 0x40,
  kOffset = 0x80,
  kRestore = 0xc0,
};

int32_t word_at(uintptr_t address) {
  int32_t word;
  memcpy(&word, reinterpret_cast<const void*>(address), sizeof word);
  return word;
}

// The bytes of a CIE or FDE after its length; empty if it is none, or reaches outside.
ByteRange entry_at(ByteRange bounds, uintptr_t address) {
  if (!bounds.contains(address))
    return {};
  ByteCursor cursor({address, bounds.high});
  const uint32_t length = cursor.u32();
  // 0 ends the section; 0xffffffff announces 64-bit lengths, which no linker writes here.
  if (!cursor.ok() || length == 0 || length == UINT32_MAX || length > bounds.high - cursor.at())
    return {};
  return {cursor.at(), cursor.at() + length};
}

// The letters of an augmentation that begins with 'z'. False: one that changes what follows.
bool read_augmentation(ByteCursor& letters, ByteCursor& data, CfiFunction& function) {
  for (;;) {
    switch (letters.u8()) {
      case 0:
        return letters.ok() && data.ok();
      case 'R':
        function.pointer_encoding = data.u8();
        break;
      case 'P':
        static_cast<void>(data.pointer_value(data.u8()));
        break;
      case 'L':
        static_cast<void>(data.u8());
        break;
      case 'S':
        function.signal_frame = true;
        break;
      default:
        return false;
    }
  }
}

// What the CIE at `address` says of all its functions.
std::optional<CfiFunction> parse_common(ByteRange bounds, uintptr_t address) {
  CfiFunction function;
  ByteCursor cursor(entry_at(bounds, address));
  if (cursor.u32() != 0)  // a CIE has 0 where an FDE points to its CIE
    return std::nullopt;
  const uint8_t version = cursor.u8();
  if (!cursor.ok() || (version != 1 && version != 3))
    return std::nullopt;
  ByteCursor letters(cursor.rest());
  while (cursor.ok() && cursor.u8() != 0) {
  }
  function.code_align = cursor.uleb();
  function.data_align = cursor.sleb();
  const uint64_t column = version == 1 ? cursor.u8() : cursor.uleb();
  if (!cursor.ok() || column != kCfiReturn)
    return std::nullopt;
  const uint8_t first = letters.u8();
  function.augmented = first == 'z';
  if (function.augmented) {
    const uint64_t bytes = cursor.uleb();
    ByteCursor data(cursor.rest());
    cursor.skip(bytes);
    if (!read_augmentation(letters, data, function) || !cursor.ok() || data.at() > cursor.at())
      return std::nullopt;
  } else if (first != 0) {
    return std::nullopt;
  }
  function.common_program = cursor.rest();
  return function;
}

// Runs the instructions of a CIE and an FDE until they describe a later pc.
class Program {
 public:
  Program(const CfiFunction& function, uintptr_t pc)
      : function_(function), pc_(pc), location_(function.code.low) {}

  [[nodiscard]] bool run(ByteRange instructions);
  void keep_initial() { initial_ = row_; }
  [[nodiscard]] const CfiRow& row() const { return row_; }

 private:
  bool advance(uint64_t units);
  bool execute(uint8_t code, ByteCursor& cursor);
  bool execute_cfa(uint8_t code, ByteCursor& cursor);
  bool execute_move(uint8_t code, ByteCursor& cursor);
  bool set(uint64_t reg, CfiRule kind, int64_t value);
  bool set_offset(uint64_t reg, CfiRule kind, uint64_t units);
  bool set_block(uint64_t reg, CfiRule kind, ByteCursor& cursor);
  bool set_cfa(uint64_t reg, int64_t offset);
  bool restore(uint64_t reg);
  [[nodiscard]] int64_t scaled(uint64_t units) const {
    return static_cast<int64_t>(units * static_cast<uint64_t>(function_.data_align));
  }

  const CfiFunction& function_;
  uintptr_t pc_;
  uintptr_t location_;
  unsigned executed_ = 0;
  unsigned remembered_ = 0;
  CfiRow row_{};
  CfiRow initial_{};
  std::array<CfiRow, kMaxRemembered> saved_{};
};

bool Program::run(ByteRange instructions) {
  ByteCursor cursor(instructions);
  while (!cursor.at_end() && location_ <= pc_) {
    if (++executed_ > kMaxInstructions || !execute(cursor.u8(), cursor))
      return false;
  }
  return cursor.ok();
}

bool Program::advance(uint64_t units) {
  const uint64_t bytes = units * function_.code_align;
  // Beyond the function: whatever follows is not for this pc.
  location_ = bytes > function_.code.high - location_ ? function_.code.high : location_ + bytes;
  return true;
}

bool Program::set(uint64_t reg, CfiRule kind, int64_t value) {
  if (reg >= kCfiRegisters)  // vector registers: nobody asks for them
    return true;
  if (!PackedRule::fits(value))
    return false;
  row_.rules[reg] = PackedRule(kind, value);
  return true;
}

bool Program::set_offset(uint64_t reg, CfiRule kind, uint64_t units) {
  return set(reg, kind, scaled(units));
}

// The expression follows: its length, then its bytes.
bool Program::set_block(uint64_t reg, CfiRule kind, ByteCursor& cursor) {
  const auto distance = static_cast<int64_t>(cursor.at() - function_.fde);
  cursor.skip(cursor.uleb());
  return cursor.ok() && set(reg, kind, distance);
}

bool Program::set_cfa(uint64_t reg, int64_t offset) {
  if (reg >= kCfiRegisters || !PackedRule::fits(offset))
    return false;
  row_.cfa_register = static_cast<uint32_t>(reg);
  row_.cfa = PackedRule(CfiRule::kOffset, offset);
  return true;
}

bool Program::restore(uint64_t reg) {
  if (reg < kCfiRegisters)
    row_.rules[reg] = initial_.rules[reg];
  return true;
}

bool Program::execute(uint8_t code, ByteCursor& cursor) {
  const uint8_t operand = code & 0x3fU;
  switch (code & 0xc0U) {
    case kAdvanceLoc:
      return advance(operand);
    case kOffset:
      return set_offset(operand, CfiRule::kAtOffset, cursor.uleb());
    case kRestore:
      return restore(operand);
    default:
      break;
  }
  switch (code) {
    case kNop:
      return true;
    case kGnuArgsSize:
      static_cast<void>(cursor.uleb());
      return true;
    case kRememberState:
      if (remembered_ == kMaxRemembered)
        return false;
      saved_[remembered_++] = row_;
      return true;
    case kRestoreState:
      if (remembered_ == 0)
        return false;
      row_ = saved_[--remembered_];
      return true;
    default:
      return code <= kAdvanceLoc4 ? execute_move(code, cursor) : execute_cfa(code, cursor);
  }
}

bool Program::execute_move(uint8_t code, ByteCursor& cursor) {
  switch (code) {
    case kAdvanceLoc1:
      return advance(cursor.u8());
    case kAdvanceLoc2:
      return advance(cursor.fixed<uint16_t>());
    case kAdvanceLoc4:
      return advance(cursor.u32());
    default:
      location_ = cursor.pointer(function_.pointer_encoding);  // kSetLoc
      return function_.code.contains(location_);
  }
}

// The instructions that name a register or the CFA in full.
bool Program::execute_cfa(uint8_t code, ByteCursor& cursor) {
  if (code == kDefCfaOffset || code == kDefCfaOffsetSf) {
    const int64_t offset = code == kDefCfaOffset ? static_cast<int64_t>(cursor.uleb())
                                                 : scaled(static_cast<uint64_t>(cursor.sleb()));
    return row_.cfa.kind() == CfiRule::kOffset && set_cfa(row_.cfa_register, offset);
  }
  if (code == kDefCfaExpression) {
    const auto distance = static_cast<int64_t>(cursor.at() - function_.fde);
    cursor.skip(cursor.uleb());
    row_.cfa = PackedRule(CfiRule::kExpression, distance);
    return cursor.ok() && PackedRule::fits(distance);
  }
  const uint64_t reg = cursor.uleb();
  switch (code) {
    case kOffsetExtended:
      return set_offset(reg, CfiRule::kAtOffset, cursor.uleb());
    case kOffsetExtendedSf:
      return set_offset(reg, CfiRule::kAtOffset, static_cast<uint64_t>(cursor.sleb()));
    case kValOffset:
      return set_offset(reg, CfiRule::kOffset, cursor.uleb());
    case kValOffsetSf:
      return set_offset(reg, CfiRule::kOffset, static_cast<uint64_t>(cursor.sleb()));
    case kRestoreExtended:
      return restore(reg);
    case kUndefined:
      return set(reg, CfiRule::kUndefined, 0);
    case kSameValue:
      return set(reg, CfiRule::kSame, 0);
    case kRegister:
      return set(reg, CfiRule::kRegister, static_cast<int64_t>(cursor.uleb()));
    case kDefCfa:
      return set_cfa(reg, static_cast<int64_t>(cursor.uleb()));
    case kDefCfaSf:
      return set_cfa(reg, scaled(static_cast<uint64_t>(cursor.sleb())));
    case kDefCfaRegister:
      return row_.cfa.kind() == CfiRule::kOffset && set_cfa(reg, row_.cfa.value());
    case kExpression:
      return set_block(reg, CfiRule::kAtExpression, cursor);
    case kValExpression:
      return set_block(reg, CfiRule::kExpression, cursor);
    default:
      return false;
  }
}

}  // namespace

std::optional<CfiFunction> parse_function(ByteRange bounds, uintptr_t fde) {
  ByteCursor cursor(entry_at(bounds, fde));
  const uintptr_t field = cursor.at();
  const uint32_t distance = cursor.u32();  // from this field back to the CIE
  if (!cursor.ok() || distance == 0)
    return std::nullopt;
  auto function = parse_common(bounds, field - distance);
  if (!function)
    return std::nullopt;
  function->fde = fde;
  function->code.low = cursor.pointer(function->pointer_encoding);
  const uintptr_t bytes = cursor.pointer_value(function->pointer_encoding);
  function->code.high = function->code.low + bytes;
  if (function->augmented)
    cursor.skip(cursor.uleb());
  if (!cursor.ok() || function->code.high < function->code.low)
    return std::nullopt;
  function->program = cursor.rest();
  return function;
}

std::optional<CfiIndex> read_index(ByteRange bounds, uintptr_t index) {
  if (!bounds.contains(index))
    return std::nullopt;
  CfiIndex head{};
  ByteCursor cursor({index, bounds.high});
  const uint8_t version = cursor.u8();
  head.frames_encoding = cursor.u8();
  const uint8_t count_encoding = cursor.u8();
  const uint8_t table_encoding = cursor.u8();
  if (version != kIndexVersion || count_encoding != kUdata4 ||
      table_encoding != kDataRelativeSdata4)
    return std::nullopt;
  head.frames = cursor.at();
  head.frames += cursor.pointer_value(head.frames_encoding);
  head.count = cursor.u32();
  head.table = cursor.at();
  if (!cursor.ok() || head.count > (bounds.high - head.table) / CfiIndex::kEntryBytes)
    return std::nullopt;
  return head;
}

std::optional<CfiFunction> find_function(ByteRange bounds, uintptr_t index, uintptr_t pc) {
  const auto head = read_index(bounds, index);
  if (!head)
    return std::nullopt;
  const uintptr_t table = head->table;
  const auto wanted = static_cast<intptr_t>(pc - index);
  // The last entry that begins at pc or before.
  uint32_t low = 0;
  uint32_t high = head->count;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (word_at(table + middle * CfiIndex::kEntryBytes) <= wanted)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0)
    return std::nullopt;
  const intptr_t entry = word_at(table + (low - 1) * CfiIndex::kEntryBytes + 4);
  auto function = parse_function(bounds, index + static_cast<uintptr_t>(entry));
  if (!function || !function->code.contains(pc))
    return std::nullopt;
  return function;
}

SC_NOINLINE std::optional<CfiRow> rules_at(const CfiFunction& function, uintptr_t pc) {
  Program program(function, pc);
  if (!program.run(function.common_program))
    return std::nullopt;
  program.keep_initial();
  if (!program.run(function.program))
    return std::nullopt;
  return program.row();
}

}  // namespace slabscope::diag
