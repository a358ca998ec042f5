// SPDX-License-Identifier: MIT

#include "diag/unwind_tables.h"

#include <dlfcn.h>

#include <cstddef>
#include <cstring>

#include "slab/base/compiler.h"

extern "C" int _dl_find_object(void* address, struct dl_find_object* result) noexcept SC_WEAK;

namespace slabscope::diag {
namespace {

// How a pointer is written in the tables (DW_EH_PE_*).
constexpr uint8_t kAbsolute = 0x00;
constexpr uint8_t kUnsigned4 = 0x03;
constexpr uint8_t kUnsigned8 = 0x04;
constexpr uint8_t kSigned4 = 0x0b;
constexpr uint8_t kSigned8 = 0x0c;
constexpr uint8_t kPcRelative = 0x10;
constexpr uint8_t kDataRelative = 0x30;
constexpr uint8_t kOmitted = 0xff;

// Reads forward to an end, and then only zeroes.
class Cursor {
 public:
  Cursor(const uint8_t* at, const uint8_t* end) : at_(at), end_(end) {}

  const uint8_t* at() const { return at_; }
  const uint8_t* end() const { return end_; }
  bool done() const { return at_ >= end_; }
  void skip(uint64_t bytes) {
    at_ = bytes > static_cast<uint64_t>(end_ - at_) ? end_ : at_ + bytes;
  }
  template <typename T>
  T fixed() {
    T value{};
    if (static_cast<size_t>(end_ - at_) < sizeof value) {
      at_ = end_;
      return value;
    }
    memcpy(&value, at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  uint64_t uleb() {
    uint64_t value = 0;
    for (unsigned shift = 0; !done() && shift < 64; shift += 7) {
      const uint8_t byte = *at_++;
      value |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0)
        break;
    }
    return value;
  }
  int64_t sleb() {
    uint64_t value = 0;
    for (unsigned shift = 0; !done() && shift < 64;) {
      const uint8_t byte = *at_++;
      value |= uint64_t{byte & 0x7fu} << shift;
      shift += 7;
      if ((byte & 0x80) != 0)
        continue;
      if ((byte & 0x40) != 0 && shift < 64)
        value |= ~uint64_t{0} << shift;
      break;
    }
    return static_cast<int64_t>(value);
  }
  // A pointer in encoding `how`; indirection and rare bases are not followed.
  uintptr_t pointer(uint8_t how) {
    const auto here = reinterpret_cast<uintptr_t>(at_);
    uintptr_t value = 0;
    switch (how & 0x0f) {
      case kAbsolute:
      case kUnsigned8:
      case kSigned8:
        value = fixed<uint64_t>();
        break;
      case kUnsigned4:
        value = fixed<uint32_t>();
        break;
      case kSigned4:
        value = static_cast<uintptr_t>(int64_t{fixed<int32_t>()});
        break;
      default:
        at_ = end_;
        break;
    }
    return (how & 0x70) == kPcRelative ? here + value : value;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

// The record that begins with a 32-bit length at `record`.
Cursor record_at(const uint8_t* record) {
  uint32_t length = 0;
  memcpy(&length, record, sizeof length);
  if (length == 0xffffffff)
    length = 0;  // 64-bit records do not occur
  return {record + sizeof length, record + sizeof length + length};
}

// The FDE that may cover `pc`, from the sorted table behind .eh_frame_hdr; or null.
const uint8_t* find_fde(const uint8_t* header, uintptr_t pc) {
  // version 1; how the section's address, the count and the table are written
  if (header[0] != 1 || header[2] != kUnsigned4 || header[3] != (kDataRelative | kSigned4)) {
    return nullptr;
  }
  Cursor cursor(header + 4, header + 20);
  cursor.pointer(header[1]);
  const auto count = cursor.fixed<uint32_t>();
  struct Entry {
    int32_t pc;
    int32_t fde;
  };
  const uint8_t* table = cursor.at();
  const auto entry = [table](size_t i) {
    Entry value;
    memcpy(&value, table + i * sizeof value, sizeof value);
    return value;
  };
  const auto wanted = static_cast<int64_t>(pc - reinterpret_cast<uintptr_t>(header));
  size_t low = 0;
  size_t high = count;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (entry(middle).pc <= wanted) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low == 0 ? nullptr : header + entry(low - 1).fde;
}

struct Cie {
  uint64_t code_factor = 1;
  int64_t data_factor = 1;
  uint8_t pointer_encoding = kAbsolute;
  bool has_augmentation = false;
  bool signal_frame = false;
  Cursor instructions{nullptr, nullptr};
};

bool read_cie(const uint8_t* record, Cie& cie) {
  Cursor cursor = record_at(record);
  if (cursor.fixed<uint32_t>() != 0)
    return false;
  const auto version = cursor.fixed<uint8_t>();
  if (version != 1 && version != 3)
    return false;
  const uint8_t* augmentation = cursor.at();
  while (!cursor.done() && cursor.fixed<uint8_t>() != 0) {
  }
  cie.code_factor = cursor.uleb();
  cie.data_factor = cursor.sleb();
  const uint64_t return_register = version == 1 ? cursor.fixed<uint8_t>() : cursor.uleb();
  if (return_register != kRegisterReturn)
    return false;
  if (*augmentation == 'z') {
    cie.has_augmentation = true;
    const uint64_t bytes = cursor.uleb();
    Cursor data(cursor.at(), cursor.end());
    cursor.skip(bytes);
    for (++augmentation; *augmentation != 0; ++augmentation) {
      if (*augmentation == 'R') {
        cie.pointer_encoding = data.fixed<uint8_t>();
      } else if (*augmentation == 'P') {
        const auto how = data.fixed<uint8_t>();
        if (how != kOmitted)
          data.pointer(how);
      } else if (*augmentation == 'L') {
        data.skip(1);
      } else if (*augmentation == 'S') {
        cie.signal_frame = true;
      } else {
        return false;
      }
    }
  } else if (*augmentation != 0) {
    return false;
  }
  cie.instructions = cursor;
  return true;
}

// ---- the call frame instructions --------------------------------------------------------------------

// The rows of the unwind table, one after the other, up to the one that covers pc.
class Machine {
 public:
  Machine(const Cie& cie, uintptr_t location, uintptr_t pc, FrameRules& rules)
      : cie_(cie), location_(location), pc_(pc), rules_(rules) {}

  // False if an instruction is unknown.
  bool run(Cursor program, bool initial) {
    while (!program.done() && location_ <= pc_) {
      const auto byte = program.fixed<uint8_t>();
      const unsigned low = byte & 0x3f;
      switch (byte >> 6) {
        case 1:
          advance(low);
          break;
        case 2:
          set(low, {RuleKind::kOffset, scaled(program.uleb())});
          break;
        case 3:
          restore(low);
          break;
        default:
          if (!run_extended(low, program))
            return false;
      }
    }
    if (initial)
      initial_ = rules_;
    return true;
  }

 private:
  static constexpr unsigned kMaxRemembered = 4;

  void advance(uint64_t delta) { location_ += delta * cie_.code_factor; }
  int32_t scaled(uint64_t factor) const {
    return static_cast<int32_t>(static_cast<int64_t>(factor) * cie_.data_factor);
  }
  int32_t scaled(int64_t factor) const { return static_cast<int32_t>(factor * cie_.data_factor); }

  static Rule* slot(FrameRules& rules, uint64_t number) {
    switch (number) {
      case kRegisterRbx:
        return &rules.rbx;
      case kRegisterRbp:
        return &rules.rbp;
      case kRegisterReturn:
        return &rules.return_address;
      default:
        return nullptr;
    }
  }
  void set(uint64_t number, Rule rule) {
    if (Rule* const to = slot(rules_, number))
      *to = rule;
  }
  void restore(uint64_t number) {
    if (Rule* const from = slot(initial_, number))
      set(number, *from);
  }
  int32_t expression(Cursor& program) {
    const uint8_t* at = program.at();
    program.skip(program.uleb());
    return static_cast<int32_t>(at - rules_.base);
  }
  void set_cfa(uint64_t number, int64_t offset) {
    rules_.cfa_register = static_cast<unsigned>(number < 32 ? number : 32);
    rules_.cfa_offset = static_cast<int32_t>(offset);
  }
  bool remember() {
    if (remembered_count_ == kMaxRemembered)
      return false;
    remembered_[remembered_count_++] = rules_;
    return true;
  }
  bool recall() {
    if (remembered_count_ == 0)
      return false;
    rules_ = remembered_[--remembered_count_];
    return true;
  }

  bool run_extended(unsigned instruction, Cursor& program);

  const Cie& cie_;
  uintptr_t location_;
  uintptr_t pc_;
  FrameRules& rules_;
  FrameRules initial_;
  FrameRules remembered_[kMaxRemembered];
  unsigned remembered_count_ = 0;
};

bool Machine::run_extended(unsigned instruction, Cursor& program) {
  uint64_t number;
  switch (instruction) {
    case 0x00:  // nop
      return true;
    case 0x01:  // set_loc
      location_ = program.pointer(cie_.pointer_encoding);
      return true;
    case 0x02:  // advance_loc1, 2, 4
      advance(program.fixed<uint8_t>());
      return true;
    case 0x03:
      advance(program.fixed<uint16_t>());
      return true;
    case 0x04:
      advance(program.fixed<uint32_t>());
      return true;
    case 0x05:  // offset_extended
      number = program.uleb();
      set(number, {RuleKind::kOffset, scaled(program.uleb())});
      return true;
    case 0x06:  // restore_extended
      restore(program.uleb());
      return true;
    case 0x07:  // undefined
      set(program.uleb(), {RuleKind::kUndefined, 0});
      return true;
    case 0x08:  // same_value
      set(program.uleb(), {RuleKind::kSame, 0});
      return true;
    case 0x09:  // register
      number = program.uleb();
      program.uleb();
      set(number, {RuleKind::kOther, 0});
      return true;
    case 0x0a:  // remember_state
      return remember();
    case 0x0b:  // restore_state
      return recall();
    case 0x0c:  // def_cfa
      number = program.uleb();
      set_cfa(number, static_cast<int64_t>(program.uleb()));
      return true;
    case 0x0d:  // def_cfa_register
      set_cfa(program.uleb(), rules_.cfa_offset);
      return true;
    case 0x0e:  // def_cfa_offset
      rules_.cfa_offset = static_cast<int32_t>(program.uleb());
      return true;
    case 0x0f:  // def_cfa_expression
      rules_.cfa_register = FrameRules::kNoRegister;
      rules_.cfa_offset = expression(program);
      return true;
    case 0x10:  // expression
      number = program.uleb();
      set(number, {RuleKind::kExpression, expression(program)});
      return true;
    case 0x11:  // offset_extended_sf
      number = program.uleb();
      set(number, {RuleKind::kOffset, scaled(program.sleb())});
      return true;
    case 0x12:  // def_cfa_sf
      number = program.uleb();
      set_cfa(number, scaled(program.sleb()));
      return true;
    case 0x13:  // def_cfa_offset_sf
      rules_.cfa_offset = scaled(program.sleb());
      return true;
    case 0x14:  // val_offset
    case 0x15:  // val_offset_sf
      number = program.uleb();
      program.uleb();
      set(number, {RuleKind::kOther, 0});
      return true;
    case 0x16:  // val_expression
      number = program.uleb();
      expression(program);
      set(number, {RuleKind::kOther, 0});
      return true;
    case 0x2e:  // GNU_args_size
      program.uleb();
      return true;
    default:
      return false;
  }
}

}  // namespace

RulesFound find_rules(uintptr_t pc, FrameRules& rules) {
  if (&_dl_find_object == nullptr)
    return RulesFound::kNoModule;
  struct dl_find_object found {};
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0)
    return RulesFound::kNoModule;
  if (found.dlfo_eh_frame == nullptr)
    return RulesFound::kNoRules;
  const uint8_t* fde = find_fde(static_cast<const uint8_t*>(found.dlfo_eh_frame), pc);
  if (fde == nullptr)
    return RulesFound::kNoRules;

  Cursor cursor = record_at(fde);
  const uint8_t* link = cursor.at();
  Cie cie;
  const auto distance = cursor.fixed<uint32_t>();
  if (distance == 0 || !read_cie(link - distance, cie))
    return RulesFound::kNoRules;
  const uintptr_t start = cursor.pointer(cie.pointer_encoding);
  const uintptr_t length = cursor.pointer(cie.pointer_encoding & 0x0f);
  if (pc < start || pc - start >= length)
    return RulesFound::kNoRules;
  if (cie.has_augmentation)
    cursor.skip(cursor.uleb());

  rules = FrameRules{};
  rules.base = fde;
  rules.signal_frame = cie.signal_frame;
  Machine machine(cie, start, pc, rules);
  if (!machine.run(cie.instructions, true) || !machine.run(cursor, false)) {
    return RulesFound::kNoRules;
  }
  return RulesFound::kFound;
}

}  // namespace slabscope::diag
