// SPDX-License-Identifier: MIT

#include "diag/cfi_walk.h"

#include <optional>

#include "diag/cfi_cache.h"
#include "diag/cfi_object.h"
#include "diag/cfi_rules.h"

namespace slabscope::diag {
namespace {

constexpr uintptr_t kMaxGuessedBytes = uintptr_t{1} << 20U;  // without rules: more is junk
constexpr uint32_t kKeptByCallee = 1U << kCfiBx | 1U << kCfiFp | 1U << kCfiSp | 1U << kCfiR12 |
                                   1U << kCfiR13 | 1U << kCfiR14 | 1U << kCfiR15 | 1U << kCfiReturn;

enum class Step : uint8_t {
  kEnd,          // no caller, or none that can be found
  kCalled,       // the new pc follows a call
  kInterrupted,  // the new pc is the next instruction: a signal came
  kNoRules,
};

// ---- one step -------------------------------------------------------------------------------

Step step_packed(PackedRow row, RegisterSet& registers, StackWindow& stack) {
  if (row == kPackedEnd)
    return Step::kEnd;
  const unsigned base = packed_from_fp(row) ? kCfiFp : kCfiSp;
  if (!registers.knows(base))
    return Step::kEnd;
  const uintptr_t cfa = registers.value[base] + packed_cfa(row);
  if (!is_plausible_frame(registers.value[kCfiSp], cfa))
    return Step::kEnd;
  const auto back = stack.load(cfa - sizeof(uintptr_t));
  if (!back)
    return Step::kEnd;
  uint64_t slots = packed_slots(row);
  for (unsigned i = 0; slots != 0; ++i, slots >>= 8U) {
    const uintptr_t slot = slots & 0xffU;
    if (slot == 0)
      continue;
    const auto saved = stack.load(cfa - slot * sizeof(uintptr_t));
    if (!saved)
      return Step::kEnd;
    registers.set(kPackedRegister[i], *saved);
  }
  registers.set(kCfiSp, cfa);
  registers.set(kCfiReturn, *back);
  registers.known &= kKeptByCallee;
  return Step::kCalled;
}

SC_NOINLINE std::optional<uintptr_t> frame_address(const CfiRow& row, const CfiFunction& function,
                                                   const RegisterSet& registers,
                                                   StackWindow& stack) {
  if (row.cfa.kind() == CfiRule::kExpression)
    return evaluate(function.block(row.cfa.value()), registers, stack, std::nullopt);
  if (row.cfa.kind() != CfiRule::kOffset || !registers.knows(row.cfa_register))
    return std::nullopt;
  return registers.value[row.cfa_register] + static_cast<uintptr_t>(row.cfa.value());
}

// The caller's value of a register that has a rule.
SC_NOINLINE std::optional<uintptr_t> recover(PackedRule rule, uintptr_t cfa,
                                             const CfiFunction& function,
                                             const RegisterSet& registers, StackWindow& stack) {
  const int64_t value = rule.value();
  switch (rule.kind()) {
    case CfiRule::kAtOffset:
      return stack.load(cfa + static_cast<uintptr_t>(value));
    case CfiRule::kOffset:
      return cfa + static_cast<uintptr_t>(value);
    case CfiRule::kRegister:
      if (value < 0 || !registers.knows(static_cast<uint64_t>(value)))
        return std::nullopt;
      return registers.value[static_cast<size_t>(value)];
    case CfiRule::kAtExpression: {
      const auto address = evaluate(function.block(value), registers, stack, cfa);
      return address ? stack.load(*address) : std::nullopt;
    }
    case CfiRule::kExpression:
      return evaluate(function.block(value), registers, stack, cfa);
    default:
      return std::nullopt;
  }
}

// A frame of any form.
SC_NOINLINE Step step_by_row(const CfiRow& row, const CfiFunction& function, RegisterSet& registers,
                             StackWindow& stack) {
  if (has_no_caller(row))
    return Step::kEnd;
  const auto cfa = frame_address(row, function, registers, stack);
  if (!cfa || (!function.signal_frame && !is_plausible_frame(registers.value[kCfiSp], *cfa)))
    return Step::kEnd;
  RegisterSet caller = registers;
  caller.set(kCfiSp, *cfa);
  for (unsigned i = 0; i < kCfiRegisters; ++i) {
    const PackedRule rule = row.rules[i];
    if (rule.kind() == CfiRule::kUnset || rule.kind() == CfiRule::kSame)
      continue;
    const auto value = recover(rule, *cfa, function, registers, stack);
    if (value)
      caller.set(i, *value);
    else
      caller.forget(i);
  }
  if (!function.signal_frame)
    caller.known &= kKeptByCallee;
  registers = caller;
  if (!registers.knows(kCfiReturn) || !registers.knows(kCfiSp))
    return Step::kEnd;
  return function.signal_frame ? Step::kInterrupted : Step::kCalled;
}

// The rules from .eh_frame.
SC_NOINLINE Step step_slow(const CfiObject& object, uintptr_t pc, uint64_t key,
                           RegisterSet& registers, StackWindow& stack) {
  CfiPlace place;
  find_rules(object, pc, key, place);
  if (!place.row)
    return Step::kNoRules;
  if (place.packed == kNotPacked)
    return step_by_row(*place.row, *place.function, registers, stack);
  return step_packed(place.packed, registers, stack);
}

// Code without rules may keep frame pointers: one step along them.
SC_NOINLINE Step step_by_frame_pointer(RegisterSet& registers, StackWindow& stack) {
  const uintptr_t fp = registers.value[kCfiFp];
  const uintptr_t sp = registers.value[kCfiSp];
  if (!registers.knows(kCfiFp) || fp < sp || fp - sp > kMaxGuessedBytes)
    return Step::kEnd;
  const auto outer = stack.load(fp);
  const auto back = stack.load(fp + sizeof(uintptr_t));
  if (!outer || !back)
    return Step::kEnd;
  registers.known = 0;
  registers.set(kCfiFp, *outer);
  registers.set(kCfiSp, fp + 2 * sizeof(uintptr_t));
  registers.set(kCfiReturn, *back);
  return Step::kCalled;
}

Step step_to_caller(CfiObject& object, uintptr_t pc, RegisterSet& registers, StackWindow& stack) {
  if (!object.mapping.contains(pc))
    object = find_object(pc);
  Step step = Step::kNoRules;
  if (object.mapping.contains(pc)) {
    const uint64_t key = cache_key(pc, object.identity);
    const PackedRow packed = cache_find(key);
    step = packed != kNotPacked ? step_packed(packed, registers, stack)
                                : step_slow(object, pc, key, registers, stack);
  }
  return step == Step::kNoRules ? step_by_frame_pointer(registers, stack) : step;
}

}  // namespace

SC_NOINLINE unsigned cfi_walk(uintptr_t* frames, unsigned max, const CfiRegisters& start,
                              StackWindow& stack) {
  RegisterSet registers;
  registers.set(kCfiReturn, start.pc);
  registers.set(kCfiSp, start.sp);
  registers.set(kCfiFp, start.fp);
  registers.set(kCfiBx, start.bx);
  registers.set(kCfiR12, start.r12);
  registers.set(kCfiR13, start.r13);
  registers.set(kCfiR14, start.r14);
  registers.set(kCfiR15, start.r15);
  CfiObject object;
  unsigned count = 0;
  Step last = Step::kInterrupted;  // the first pc is exact
  while (count < max) {
    // A call may be the last instruction of its function: the return address is beyond it.
    const uintptr_t pc = registers.value[kCfiReturn] - (last == Step::kCalled ? 1 : 0);
    last = step_to_caller(object, pc, registers, stack);
    const uintptr_t back = registers.value[kCfiReturn];
    if (last == Step::kEnd || !is_code_address(back))
      break;
    frames[count++] = back;
  }
  return count;
}

}  // namespace slabscope::diag
