// SPDX-License-Identifier: MIT

#include "diag/cfi_walk.h"

#include <dlfcn.h>
#include <elf.h>

#include <optional>

#include "diag/cfi_cache.h"
#include "diag/cfi_rules.h"

// glibc >= 2.35.
extern "C" int _dl_find_object(void* address, struct dl_find_object* result) noexcept SC_WEAK;

namespace slabscope::diag {
namespace {

constexpr uintptr_t kPage = abi::kPageBytes;
constexpr uintptr_t kAddressEnd = uintptr_t{1} << 47U;
constexpr uintptr_t kMaxFrameBytes = uintptr_t{8} << 20U;    // the usual limit of a whole stack
constexpr uintptr_t kMaxGuessedBytes = uintptr_t{1} << 20U;  // without rules: more is junk
constexpr uint32_t kKeptByCallee = 1U << kCfiBx | 1U << kCfiFp | 1U << kCfiSp | 1U << kCfiR12 |
                                   1U << kCfiR13 | 1U << kCfiR14 | 1U << kCfiR15 | 1U << kCfiReturn;

// A loaded object that has .eh_frame_hdr.
struct Object {
  ByteRange mapping;
  uintptr_t index = 0;    // its .eh_frame_hdr
  uint64_t identity = 0;  // differs between two objects at one address
};

enum class Step : uint8_t {
  kEnd,          // no caller, or none that can be found
  kCalled,       // the new pc follows a call
  kInterrupted,  // the new pc is the next instruction: a signal came
  kNoRules,
};

// ---- which object, which rules --------------------------------------------------------------

SC_NOINLINE Object find_object(uintptr_t pc) {
  Object object;
  struct dl_find_object found;
  if (&_dl_find_object == nullptr || _dl_find_object(reinterpret_cast<void*>(pc), &found) != 0)
    return object;
  object.mapping = {reinterpret_cast<uintptr_t>(found.dlfo_map_start),
                    reinterpret_cast<uintptr_t>(found.dlfo_map_end)};
  object.index = reinterpret_cast<uintptr_t>(found.dlfo_eh_frame);
  if (object.mapping.high - object.index < 2 * sizeof(uint64_t) ||
      !object.mapping.contains(object.index))
    return {};
  // Where .eh_frame lies and how many functions it has: the twelve bytes at the index's start.
  uint64_t words[2];
  memcpy(words, reinterpret_cast<const void*>(object.index), sizeof words);
  object.identity = object.index + reinterpret_cast<uintptr_t>(found.dlfo_link_map) * 3 +
                    (words[0] ^ (words[1] << 32U)) * 0x9e3779b97f4a7c15U;
  return object;
}

// The segment of `object` that holds its index: between segments there may be no memory.
SC_NOINLINE ByteRange segment_of_index(const Object& object) {
  const ByteRange& mapping = object.mapping;
  Elf64_Ehdr header;
  if (mapping.high - mapping.low < kPage)
    return {};
  memcpy(&header, reinterpret_cast<const void*>(mapping.low), sizeof header);
  const bool is_elf = memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
                      header.e_phentsize == sizeof(Elf64_Phdr) && header.e_phoff < kPage &&
                      header.e_phoff + header.e_phnum * sizeof(Elf64_Phdr) <= kPage;
  if (!is_elf)
    return {object.index, mapping.high};  // the header is in no segment: rare, and all is one
  uintptr_t bias = 0;
  bool first = true;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    const uintptr_t at = mapping.low + header.e_phoff + i * sizeof(Elf64_Phdr);
    Elf64_Phdr segment;
    memcpy(&segment, reinterpret_cast<const void*>(at), sizeof segment);
    if (segment.p_type != PT_LOAD)
      continue;
    if (first)
      bias = mapping.low - (segment.p_vaddr & ~(kPage - 1));
    first = false;
    const ByteRange range{bias + segment.p_vaddr, bias + segment.p_vaddr + segment.p_filesz};
    if (range.contains(object.index) && mapping.contains(range.low) && range.high <= mapping.high)
      return range;
  }
  return {};
}

// ---- one step -------------------------------------------------------------------------------

// Whether the frame that ends at `cfa` may lie where it is said to.
bool is_plausible(uintptr_t sp, uintptr_t cfa) {
  return cfa > sp && cfa - sp <= kMaxFrameBytes && cfa % sizeof(uintptr_t) == 0;
}

Step step_packed(PackedRow row, RegisterSet& registers, StackWindow& stack) {
  if (row == kPackedEnd)
    return Step::kEnd;
  const unsigned base = packed_from_fp(row) ? kCfiFp : kCfiSp;
  if (!registers.knows(base))
    return Step::kEnd;
  const uintptr_t cfa = registers.value[base] + packed_cfa(row);
  if (!is_plausible(registers.value[kCfiSp], cfa))
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
  if (!cfa || (!function.signal_frame && !is_plausible(registers.value[kCfiSp], *cfa)))
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

// The rules from .eh_frame; what can be packed is remembered under `key`.
SC_NOINLINE Step step_slow(const Object& object, uintptr_t pc, uint64_t key, RegisterSet& registers,
                           StackWindow& stack) {
  const auto function = find_function(segment_of_index(object), object.index, pc);
  if (!function)
    return Step::kNoRules;
  const auto row = rules_at(*function, pc);
  if (!row)
    return Step::kNoRules;
  const PackedRow packed = function->signal_frame ? kNotPacked : pack(*row);
  if (packed == kNotPacked)
    return step_by_row(*row, *function, registers, stack);
  cache_store(key, packed);
  return step_packed(packed, registers, stack);
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

Step step_to_caller(Object& object, uintptr_t pc, RegisterSet& registers, StackWindow& stack) {
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
  Object object;
  unsigned count = 0;
  Step last = Step::kInterrupted;  // the first pc is exact
  while (count < max) {
    // A call may be the last instruction of its function: the return address is beyond it.
    const uintptr_t pc = registers.value[kCfiReturn] - (last == Step::kCalled ? 1 : 0);
    last = step_to_caller(object, pc, registers, stack);
    const uintptr_t back = registers.value[kCfiReturn];
    if (last == Step::kEnd || back < kPage || back >= kAddressEnd)
      break;
    frames[count++] = back;
  }
  return count;
}

}  // namespace slabscope::diag
