// SPDX-License-Identifier: MIT
//
// unwind_tables: how to leave the function at one pc, read from its module's unwind tables.
//
//   pc ─► _dl_find_object ─► .eh_frame_hdr ─binary search─► FDE + CIE ─run to pc─► FrameRules
//
// The tables lie in mapped, read-only parts of modules that are on the caller's stack, so they can
// be read in place; every loop is bounded by the record's own length. Only what gcc, clang and glibc
// emit for x86-64 is understood; anything else is "no rules", and the walk goes on by frame pointers.
// Locks: none; _dl_find_object (glibc 2.35) takes none either. Called from: unwind_walk.cc.

#pragma once

#include <cstdint>

namespace slabscope::diag {

// DWARF's register numbers on x86-64. The others are never needed to find a caller.
inline constexpr unsigned kRegisterRbx = 3;
inline constexpr unsigned kRegisterRbp = 6;
inline constexpr unsigned kRegisterRsp = 7;
inline constexpr unsigned kRegisterReturn = 16;

enum class RuleKind : uint8_t {
  kSame,        // the caller's value is the callee's
  kUndefined,   // lost; for the return address: the outermost frame
  kOffset,      // saved at CFA + value
  kExpression,  // saved where the expression says
  kOther,       // in a way we do not follow
};

struct Rule {
  RuleKind kind = RuleKind::kSame;
  int32_t value = 0;  // of kExpression: distance of the expression from FrameRules::base
};

struct FrameRules {
  // The canonical frame address: register + offset, or an expression if cfa_register is kNoRegister.
  static constexpr unsigned kNoRegister = 255;
  unsigned cfa_register = kNoRegister;
  int32_t cfa_offset = 0;  // or the expression's distance from base
  Rule rbx;
  Rule rbp;
  Rule return_address;
  bool signal_frame = false;  // the caller's pc is where it was interrupted
  const uint8_t* base = nullptr;
};

enum class RulesFound : uint32_t {
  kNoModule,  // generated code, or no code at all
  kNoRules,   // code without unwind tables
  kFound,
};

[[nodiscard]] RulesFound find_rules(uintptr_t pc, FrameRules& rules);

}  // namespace slabscope::diag
