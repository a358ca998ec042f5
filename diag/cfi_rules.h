// SPDX-License-Identifier: MIT
//
// cfi_rules: which rules of .eh_frame describe the frame of a function at one pc.
//
//   .eh_frame_hdr  [loc | fde] sorted ──binary search──► FDE ──► CIE
//                                                         │       │ first instructions
//                                                         ▼       ▼
//                                      instructions up to pc ─► CfiRow: CFA, and register rules
//
// Invariants
//   1. Only bytes inside `bounds` are read, whatever they hold.                 (fuzz test)
//   2. At most kMaxInstructions are run and kMaxRemembered rows remembered; more is "no rules".
//   3. A row is 76 bytes: what lies on the stack is small, for coroutines' sake.   (static_assert)
// Locks: none; no state. Called from: cfi_walk.cc, on whatever stack the program runs.
// Sources: DWARF 5, 6.4 (call frame information); LSB 5.0 Core, 10.6 (.eh_frame, .eh_frame_hdr);
// System V ABI for x86-64, figure 3.36 (register numbers).
// Rejected: .debug_frame (not mapped); a table without .eh_frame_hdr's index (a linear search).

#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "diag/cfi_bytes.h"
#include "slab/base/compiler.h"

namespace slabscope::diag {

// Registers as DWARF numbers them for x86-64.
enum CfiRegister : unsigned {
  kCfiBx = 3,
  kCfiFp = 6,
  kCfiSp = 7,
  kCfiR12 = 12,
  kCfiR13 = 13,
  kCfiR14 = 14,
  kCfiR15 = 15,
  kCfiReturn = 16,
};
inline constexpr unsigned kCfiRegisters = 17;

// How the caller's value of one register is found.
enum class CfiRule : uint8_t {
  kUnset = 0,     // no rule: unchanged if a callee must keep it, else unknown
  kSame,          // unchanged
  kUndefined,     // lost; for the return address: there is no caller
  kAtOffset,      // in memory at CFA + value
  kOffset,        // CFA + value itself
  kRegister,      // in register `value`
  kAtExpression,  // in memory where the expression at fde + value says
  kExpression,    // the expression's result itself
};

// A rule in four bytes: the value fits 29 bits, or else there is no row.
class PackedRule {
 public:
  constexpr PackedRule() = default;
  constexpr PackedRule(CfiRule kind, int64_t value)
      : bits_(static_cast<int32_t>(static_cast<uint64_t>(value) << 3U |
                                   static_cast<uint64_t>(kind))) {}

  [[nodiscard]] static constexpr bool fits(int64_t value) {
    return value >= -(int64_t{1} << 28U) && value < (int64_t{1} << 28U);
  }
  [[nodiscard]] constexpr CfiRule kind() const { return static_cast<CfiRule>(bits_ & 7); }
  [[nodiscard]] constexpr int64_t value() const { return bits_ >> 3; }

 private:
  int32_t bits_ = 0;
};

struct CfiRow {
  // kOffset: register cfa_register + value; kExpression: its result. Anything else: none yet.
  PackedRule cfa;
  uint32_t cfa_register = 0;
  std::array<PackedRule, kCfiRegisters> rules{};
};
static_assert(sizeof(CfiRow) == 76);

// Whether the frame is the outermost: where it was called from is said to be nowhere, or not said.
SC_INLINE bool has_no_caller(const CfiRow& row) {
  const CfiRule back = row.rules[kCfiReturn].kind();
  return back == CfiRule::kUndefined || back == CfiRule::kUnset || back == CfiRule::kSame;
}

// One FDE with what its CIE says.
struct CfiFunction {
  uintptr_t fde = 0;  // rules name expressions by their distance from here
  ByteRange code;     // the pcs described
  ByteRange common_program;
  ByteRange program;
  uint64_t code_align = 1;
  int64_t data_align = 1;
  uint8_t pointer_encoding = 0;
  bool signal_frame = false;
  bool augmented = false;  // FDEs have augmentation data too

  // The bytes of an expression that a rule names.
  [[nodiscard]] ByteRange block(int64_t distance) const {
    const uintptr_t at = fde + static_cast<uintptr_t>(distance);
    return {at, program.contains(at) ? program.high : common_program.high};
  }
};

// The head of an .eh_frame_hdr (LSB 5.0 Core, 10.6.2), in the form that all linkers write.
struct CfiIndex {
  static constexpr uintptr_t kEntryBytes = 8;  // two sdata4: first pc, FDE

  uint8_t frames_encoding;
  uintptr_t frames;  // .eh_frame, if the encoding is relative to the field
  uintptr_t table;
  uint32_t count;  // of the table's entries, which lie inside the bounds

  [[nodiscard]] uintptr_t end() const { return table + count * kEntryBytes; }
};
[[nodiscard]] std::optional<CfiIndex> read_index(ByteRange bounds, uintptr_t index);

// The function that holds `pc`, by the .eh_frame_hdr at `index`. Everything lies inside `bounds`.
[[nodiscard]] std::optional<CfiFunction> find_function(ByteRange bounds, uintptr_t index,
                                                       uintptr_t pc);

// Parses the FDE at `fde`; none if it is not one that is understood.
[[nodiscard]] std::optional<CfiFunction> parse_function(ByteRange bounds, uintptr_t fde);

// The rules that hold when the instruction at `pc` is about to run.
[[nodiscard]] std::optional<CfiRow> rules_at(const CfiFunction& function, uintptr_t pc);

}  // namespace slabscope::diag
