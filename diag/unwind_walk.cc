// SPDX-License-Identifier: MIT

#include "diag/unwind_walk.h"

#include <array>
#include <atomic>
#include <cstring>

#include "diag/abi/layout.h"
#include "diag/unwind_tables.h"
#include "diag/memory_probe.h"
#include "slab/base/compiler.h"

namespace slabscope::diag {
namespace {

constexpr uintptr_t kPage = abi::kPageBytes;
constexpr uintptr_t kAddressEnd = uintptr_t{1} << 47;
constexpr uintptr_t kMaxFrameBytes = uintptr_t{1} << 20;  // a longer step is junk
constexpr uintptr_t kMaxKnownStack = uintptr_t{1} << 20;  // what was seen is not believed for ever

// ---- rules that fit two words, by pc ----------------------------------------------------------------

// The CFA is rsp + n or rbp + n, the return address and the saved registers lie at fixed distances
// from it. That is all code but a few prologues, PLT stubs and signal frames.
struct SimpleRules {
  int32_t cfa_offset;
  int32_t return_offset;
  int32_t rbp_offset;  // kNotSaved: unchanged
  int32_t rbx_offset;
};
constexpr int32_t kNotSaved = INT32_MIN;
constexpr uint64_t kByRbp = 1;  // lowest bit of the key's word: a pc has 47 bits, shifted by 2
constexpr uint64_t kBusy = 2;

struct CacheEntry {
  std::atomic<uint64_t> key{0};  // pc << 2 | busy | by rbp
  std::atomic<uint64_t> first{0};
  std::atomic<uint64_t> second{0};
};
constexpr size_t kCacheEntries = 4096;  // 96 KiB, touched as needed
constinit std::array<CacheEntry, kCacheEntries> g_cache{};

CacheEntry& entry_of(uintptr_t pc) {
  return g_cache[(pc * 0x9e3779b97f4a7c15) >> 52 & (kCacheEntries - 1)];
}

uint64_t pack(int32_t high, int32_t low) {
  return uint64_t{static_cast<uint32_t>(high)} << 32 | static_cast<uint32_t>(low);
}

bool find_cached(uintptr_t pc, SimpleRules& rules, bool& by_rbp) {
  const CacheEntry& entry = entry_of(pc);
  const uint64_t key = entry.key.load(std::memory_order_acquire);
  if ((key & ~kByRbp) != pc << 2)
    return false;
  const uint64_t first = entry.first.load(std::memory_order_acquire);
  const uint64_t second = entry.second.load(std::memory_order_acquire);
  // Unchanged: no writer came between, since a writer changes the key first.
  if (entry.key.load(std::memory_order_relaxed) != key)
    return false;
  rules = {static_cast<int32_t>(first >> 32), static_cast<int32_t>(first),
           static_cast<int32_t>(second >> 32), static_cast<int32_t>(second)};
  by_rbp = (key & kByRbp) != 0;
  return true;
}

void remember(uintptr_t pc, const SimpleRules& rules, bool by_rbp) {
  CacheEntry& entry = entry_of(pc);
  uint64_t key = entry.key.load(std::memory_order_relaxed);
  if ((key & kBusy) != 0 ||
      !entry.key.compare_exchange_strong(key, kBusy, std::memory_order_acq_rel)) {
    return;
  }
  entry.first.store(pack(rules.cfa_offset, rules.return_offset), std::memory_order_release);
  entry.second.store(pack(rules.rbp_offset, rules.rbx_offset), std::memory_order_release);
  entry.key.store(pc << 2 | (by_rbp ? kByRbp : 0), std::memory_order_release);
}

bool simplify(const FrameRules& rules, SimpleRules& simple, bool& by_rbp) {
  const auto saved = [](const Rule& rule, int32_t& offset) {
    offset = rule.kind == RuleKind::kOffset ? rule.value : kNotSaved;
    return rule.kind == RuleKind::kOffset || rule.kind == RuleKind::kSame;
  };
  if (rules.signal_frame || rules.return_address.kind != RuleKind::kOffset)
    return false;
  if (rules.cfa_register != kRegisterRsp && rules.cfa_register != kRegisterRbp)
    return false;
  by_rbp = rules.cfa_register == kRegisterRbp;
  simple.cfa_offset = rules.cfa_offset;
  simple.return_offset = rules.return_address.value;
  return saved(rules.rbp, simple.rbp_offset) && saved(rules.rbx, simple.rbx_offset);
}

// ---- DWARF expressions ------------------------------------------------------------------------------

// A word of the stack machine's program; false at its end.
template <typename T>
uint64_t take(const uint8_t*& at) {
  T value;
  memcpy(&value, at, sizeof value);
  at += sizeof value;
  return static_cast<uint64_t>(value);
}

uint64_t take_leb(const uint8_t*& at, bool is_signed) {
  uint64_t value = 0;
  unsigned shift = 0;
  uint8_t byte;
  do {
    byte = *at++;
    if (shift < 64)
      value |= uint64_t{byte & 0x7fu} << shift;
    shift += 7;
  } while ((byte & 0x80) != 0 && shift < 70);
  if (is_signed && (byte & 0x40) != 0 && shift < 64)
    value |= ~uint64_t{0} << shift;
  return value;
}

class Evaluator {
 public:
  Evaluator(const UnwindRegisters& registers, KnownStack& stack)
      : registers_(registers), stack_(stack) {}

  // `at` is the expression's length, then its operations. False if one is unknown or reads badly.
  bool run(const uint8_t* at, uintptr_t& result) {
    const uint64_t bytes = take_leb(at, false);
    const uint8_t* end = at + bytes;
    while (at < end) {
      if (!step(at) || depth_ > kMaxDepth)
        return false;
    }
    if (depth_ == 0)
      return false;
    result = values_[depth_ - 1];
    return true;
  }
  void push(uint64_t value) {
    if (depth_ < kMaxDepth)
      values_[depth_] = value;
    ++depth_;
  }

 private:
  static constexpr unsigned kMaxDepth = 8;

  bool register_value(unsigned number, uint64_t& value) const {
    switch (number) {
      case kRegisterRbx:
        value = registers_.bx;
        return registers_.bx_known;
      case kRegisterRbp:
        value = registers_.fp;
        return true;
      case kRegisterRsp:
        value = registers_.sp;
        return true;
      case kRegisterReturn:
        value = registers_.pc;
        return true;
      default:
        return false;
    }
  }
  bool step(const uint8_t*& at);
  bool binary(uint8_t operation);

  const UnwindRegisters& registers_;
  KnownStack& stack_;
  uint64_t values_[kMaxDepth]{};
  unsigned depth_ = 0;
};

bool Evaluator::binary(uint8_t operation) {
  if (depth_ < 2)
    return false;
  const uint64_t right = values_[--depth_];
  uint64_t& left = values_[depth_ - 1];
  switch (operation) {
    case 0x1a:
      left &= right;
      return true;
    case 0x1c:
      left -= right;
      return true;
    case 0x21:
      left |= right;
      return true;
    case 0x22:
      left += right;
      return true;
    case 0x24:
      left = right < 64 ? left << right : 0;
      return true;
    case 0x2a:
      left = static_cast<int64_t>(left) >= static_cast<int64_t>(right) ? 1 : 0;
      return true;
    default:
      return false;
  }
}

bool Evaluator::step(const uint8_t*& at) {
  const uint8_t operation = *at++;
  if (operation >= 0x30 && operation <= 0x4f) {  // lit0..31
    push(operation - 0x30u);
    return true;
  }
  if (operation >= 0x70 && operation <= 0x8f) {  // breg0..31
    uint64_t value = 0;
    if (!register_value(operation - 0x70u, value))
      return false;
    push(value + take_leb(at, true));
    return true;
  }
  switch (operation) {
    case 0x06:  // deref
      return depth_ > 0 && stack_.read(values_[depth_ - 1], values_[depth_ - 1]);
    case 0x08:  // const1u, 1s, 2u, 2s, 4u, 4s, 8u
      push(take<uint8_t>(at));
      return true;
    case 0x09:
      push(take<int8_t>(at));
      return true;
    case 0x0a:
      push(take<uint16_t>(at));
      return true;
    case 0x0b:
      push(take<int16_t>(at));
      return true;
    case 0x0c:
      push(take<uint32_t>(at));
      return true;
    case 0x0d:
      push(take<int32_t>(at));
      return true;
    case 0x0e:
      push(take<uint64_t>(at));
      return true;
    case 0x23:  // plus_uconst
      if (depth_ == 0)
        return false;
      values_[depth_ - 1] += take_leb(at, false);
      return true;
    default:
      return binary(operation);
  }
}

// ---- one frame outwards ----------------------------------------------------------------------------

bool is_frame_step(uintptr_t from, uintptr_t to) {
  return to > from && to - from <= kMaxFrameBytes && to % 8 == 0;
}

bool step_simple(const SimpleRules& rules, bool by_rbp, UnwindRegisters& at, KnownStack& stack) {
  const auto offset = [](int32_t n) { return static_cast<uintptr_t>(intptr_t{n}); };
  const uintptr_t cfa = (by_rbp ? at.fp : at.sp) + offset(rules.cfa_offset);
  if (!is_frame_step(at.sp, cfa) || !stack.read(cfa + offset(rules.return_offset), at.pc)) {
    return false;
  }
  if (rules.rbp_offset != kNotSaved && !stack.read(cfa + offset(rules.rbp_offset), at.fp)) {
    return false;
  }
  if (rules.rbx_offset != kNotSaved) {
    at.bx_known = stack.read(cfa + offset(rules.rbx_offset), at.bx);
  }
  at.sp = cfa;
  at.interrupted = false;
  return true;
}

// Where `rule` says that the caller's value lies; false if nowhere.
bool read_saved(const Rule& rule, const FrameRules& rules, const UnwindRegisters& at, uintptr_t cfa,
                KnownStack& stack, uintptr_t& value) {
  uintptr_t address = cfa + static_cast<uintptr_t>(intptr_t{rule.value});
  if (rule.kind == RuleKind::kExpression) {
    Evaluator evaluator(at, stack);
    evaluator.push(cfa);
    if (!evaluator.run(rules.base + rule.value, address))
      return false;
  } else if (rule.kind != RuleKind::kOffset) {
    return false;
  }
  return stack.read(address, value);
}

SC_NOINLINE bool step_general(const FrameRules& rules, UnwindRegisters& at, KnownStack& stack) {
  uintptr_t cfa = static_cast<uintptr_t>(intptr_t{rules.cfa_offset});
  switch (rules.cfa_register) {
    case kRegisterRsp:
      cfa += at.sp;
      break;
    case kRegisterRbp:
      cfa += at.fp;
      break;
    case kRegisterRbx:
      if (!at.bx_known)
        return false;
      cfa += at.bx;
      break;
    case FrameRules::kNoRegister: {
      Evaluator evaluator(at, stack);
      if (!evaluator.run(rules.base + rules.cfa_offset, cfa))
        return false;
      break;
    }
    default:
      return false;
  }
  // A signal handler may run on a stack of its own.
  if (!rules.signal_frame && !is_frame_step(at.sp, cfa))
    return false;
  UnwindRegisters caller = at;
  if (!read_saved(rules.return_address, rules, at, cfa, stack, caller.pc))
    return false;
  if (rules.rbp.kind != RuleKind::kSame &&
      !read_saved(rules.rbp, rules, at, cfa, stack, caller.fp)) {
    caller.fp = 0;
  }
  if (rules.rbx.kind != RuleKind::kSame) {
    caller.bx_known = read_saved(rules.rbx, rules, at, cfa, stack, caller.bx);
  }
  caller.sp = cfa;
  caller.interrupted = rules.signal_frame;
  at = caller;
  return true;
}

// Generated code has no tables, but usually keeps the frame pointer.
bool step_by_frame_pointer(UnwindRegisters& at, KnownStack& stack) {
  uintptr_t pc = 0;
  uintptr_t fp = 0;
  if (!is_frame_step(at.sp - 1, at.fp) || !stack.read(at.fp, fp) || !stack.read(at.fp + 8, pc)) {
    return false;
  }
  at.sp = at.fp + 16;
  at.fp = fp;
  at.pc = pc;
  at.bx_known = false;
  at.interrupted = false;
  return true;
}

bool step(UnwindRegisters& at, KnownStack& stack) {
  const uintptr_t pc = at.interrupted ? at.pc : at.pc - 1;  // the call, not what follows it
  SimpleRules simple{};
  bool by_rbp = false;
  if (find_cached(pc, simple, by_rbp))
    return step_simple(simple, by_rbp, at, stack);
  FrameRules rules;
  const RulesFound found = find_rules(pc, rules);
  if (found == RulesFound::kNoModule)
    return step_by_frame_pointer(at, stack);
  if (found == RulesFound::kNoRules) {
    // Assembly without tables: the frame pointer may be data, so what it leads to must be code.
    return step_by_frame_pointer(at, stack) &&
           find_rules(at.pc - 1, rules) != RulesFound::kNoModule;
  }
  if (!simplify(rules, simple, by_rbp))
    return step_general(rules, at, stack);
  remember(pc, simple, by_rbp);
  return step_simple(simple, by_rbp, at, stack);
}

}  // namespace

bool KnownStack::extend(uintptr_t first, uintptr_t end) {
  first &= ~(kPage - 1);
  end = (end + kPage - 1) & ~(kPage - 1);
  for (uintptr_t page = first; page < end; page += kPage) {
    if ((page < low || page >= high) && !is_readable(page))
      return false;
  }
  const bool touches = first <= high && end >= low;
  const uintptr_t new_low = touches && low < first ? low : first;
  const uintptr_t new_high = touches && high > end ? high : end;
  // Coroutine stacks come and go, so the range does not grow without bounds.
  const bool keep = new_high - new_low <= kMaxKnownStack;
  low = keep ? new_low : first;
  high = keep ? new_high : end;
  return true;
}

// Junk may point anywhere into our stack, so AddressSanitizer must not have a say here.
__attribute__((no_sanitize("address"))) bool KnownStack::read(uintptr_t address, uintptr_t& word) {
  if (SC_UNLIKELY(address < low || address + 8 > high || address + 8 < address)) {
    if (address > kAddressEnd || !extend(address, address + 8))
      return false;
  }
  __builtin_memcpy(&word, reinterpret_cast<const void*>(address), sizeof word);
  return true;
}

unsigned unwind_by_tables(UnwindRegisters registers, KnownStack& stack, uintptr_t* frames,
                          unsigned max) {
  unsigned count = 0;
  while (count < max) {
    frames[count++] = registers.pc;
    if (!step(registers, stack))
      break;
    if (registers.pc < kPage || registers.pc >= kAddressEnd)
      break;
  }
  return count;
}

}  // namespace slabscope::diag
