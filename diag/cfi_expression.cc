// SPDX-License-Identifier: MIT

#include "diag/cfi_expression.h"

#include "slab/base/compiler.h"

namespace slabscope::diag {
namespace {

constexpr unsigned kMaxOperations = 256;
constexpr unsigned kDepth = 8;  // compilers use four

// DW_OP_*
enum Operation : uint8_t {
  kDeref = 0x06,
  kConst1u = 0x08,
  kConst1s = 0x09,
  kConst2u = 0x0a,
  kConst2s = 0x0b,
  kConst4u = 0x0c,
  kConst4s = 0x0d,
  kConst8u = 0x0e,
  kConst8s = 0x0f,
  kConstu = 0x10,
  kConsts = 0x11,
  kDup = 0x12,
  kDrop = 0x13,
  kOver = 0x14,
  kPick = 0x15,
  kSwap = 0x16,
  kAnd = 0x1a,
  kMinus = 0x1c,
  kMul = 0x1e,
  kNeg = 0x1f,
  kNot = 0x20,
  kOr = 0x21,
  kPlus = 0x22,
  kPlusUconst = 0x23,
  kShl = 0x24,
  kShr = 0x25,
  kShra = 0x26,
  kXor = 0x27,
  kBra = 0x28,
  kEq = 0x29,
  kGe = 0x2a,
  kGt = 0x2b,
  kLe = 0x2c,
  kLt = 0x2d,
  kNe = 0x2e,
  kSkip = 0x2f,
  kLit0 = 0x30,
  kLit31 = 0x4f,
  kBreg0 = 0x70,
  kBreg31 = 0x8f,
  kBregx = 0x92,
  kNop = 0x96,
};

class Machine {
 public:
  Machine(ByteRange code, const RegisterSet& registers, StackWindow& stack)
      : low_(code.low), cursor_(code), registers_(registers), memory_(stack) {}

  void push(uintptr_t value) {
    if (depth_ == kDepth)
      ok_ = false;
    else
      stack_[depth_++] = value;
  }

  [[nodiscard]] std::optional<uintptr_t> run() {
    for (unsigned i = 0; !cursor_.at_end() && ok_; ++i) {
      if (i == kMaxOperations)
        return std::nullopt;
      execute(cursor_.u8());
    }
    if (!ok_ || !cursor_.ok() || depth_ == 0)
      return std::nullopt;
    return stack_[depth_ - 1];
  }

 private:
  uintptr_t pop() {
    if (depth_ == 0) {
      ok_ = false;
      return 0;
    }
    return stack_[--depth_];
  }

  // The entry `index` below the top.
  void pick(unsigned index) {
    if (index < depth_)
      push(stack_[depth_ - 1 - index]);
    else
      ok_ = false;
  }

  void push_signed(int64_t value) { push(static_cast<uintptr_t>(value)); }

  void push_register(uint64_t reg) {
    const int64_t offset = cursor_.sleb();
    if (registers_.knows(reg))
      push(registers_.value[reg] + static_cast<uintptr_t>(offset));
    else
      ok_ = false;
  }

  void execute(uint8_t operation);
  void execute_constant(uint8_t operation);
  void execute_binary(uint8_t operation);

  uintptr_t low_;
  ByteCursor cursor_;
  const RegisterSet& registers_;
  StackWindow& memory_;
  unsigned depth_ = 0;
  bool ok_ = true;
  std::array<uintptr_t, kDepth> stack_{};
};

SC_NOINLINE void Machine::execute(uint8_t operation) {
  if (operation >= kLit0 && operation <= kLit31)
    return push(operation - kLit0);
  if (operation >= kBreg0 && operation <= kBreg31)
    return push_register(operation - kBreg0);
  if (operation >= kConst1u && operation <= kConsts)
    return execute_constant(operation);
  switch (operation) {
    case kNop:
      return;
    case kBregx:
      return push_register(cursor_.uleb());
    case kDeref: {
      const auto word = memory_.load(pop());
      ok_ = ok_ && word.has_value();
      return push(word ? *word : 0);
    }
    case kDup:
      return pick(0);
    case kOver:
      return pick(1);
    case kPick:
      return pick(cursor_.u8());
    case kDrop:
      static_cast<void>(pop());
      return;
    case kNeg:
      return push(0 - pop());
    case kNot:
      return push(~pop());
    case kPlusUconst:
      return push(pop() + cursor_.uleb());
    case kSkip:
      return cursor_.jump(cursor_.fixed<int16_t>(), low_);
    case kBra: {
      const auto distance = cursor_.fixed<int16_t>();
      return cursor_.jump(pop() != 0 ? distance : 0, low_);
    }
    default:
      return execute_binary(operation);
  }
}

void Machine::execute_constant(uint8_t operation) {
  switch (operation) {
    case kConst1u:
      return push(cursor_.u8());
    case kConst1s:
      return push_signed(cursor_.fixed<int8_t>());
    case kConst2u:
      return push(cursor_.fixed<uint16_t>());
    case kConst2s:
      return push_signed(cursor_.fixed<int16_t>());
    case kConst4u:
      return push(cursor_.u32());
    case kConst4s:
      return push_signed(cursor_.fixed<int32_t>());
    case kConst8u:
    case kConst8s:
      return push(cursor_.fixed<uint64_t>());
    case kConstu:
      return push(cursor_.uleb());
    default:
      return push_signed(cursor_.sleb());
  }
}

void Machine::execute_binary(uint8_t operation) {
  const uintptr_t right = pop();
  const uintptr_t left = pop();
  const auto signed_right = static_cast<intptr_t>(right);
  const auto signed_left = static_cast<intptr_t>(left);
  switch (operation) {
    case kSwap:
      push(right);
      return push(left);
    case kAnd:
      return push(left & right);
    case kMinus:
      return push(left - right);
    case kMul:
      return push(left * right);
    case kOr:
      return push(left | right);
    case kPlus:
      return push(left + right);
    case kShl:
      return push(right < 64 ? left << right : 0);
    case kShr:
      return push(right < 64 ? left >> right : 0);
    case kShra:
      return push_signed(signed_left >> (right < 64 ? right : 63));
    case kXor:
      return push(left ^ right);
    case kEq:
      return push(left == right);
    case kGe:
      return push(signed_left >= signed_right);
    case kGt:
      return push(signed_left > signed_right);
    case kLe:
      return push(signed_left <= signed_right);
    case kLt:
      return push(signed_left < signed_right);
    case kNe:
      return push(left != right);
    default:
      ok_ = false;
  }
}

}  // namespace

SC_NOINLINE std::optional<uintptr_t> evaluate(ByteRange bytes, const RegisterSet& registers,
                                              StackWindow& stack,
                                              std::optional<uintptr_t> initial) {
  ByteCursor cursor(bytes);
  const uint64_t length = cursor.uleb();
  if (!cursor.ok() || length > bytes.high - cursor.at())
    return std::nullopt;
  Machine machine({cursor.at(), cursor.at() + length}, registers, stack);
  if (initial)
    machine.push(*initial);
  return machine.run();
}

}  // namespace slabscope::diag
