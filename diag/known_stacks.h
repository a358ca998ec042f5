// SPDX-License-Identifier: MIT
//
// KnownStacks: stacks that were walked and named lately, each with all that its walk depended on.
//
//   sp ─► probe ─► word: who called the allocator ─► set of kWays stacks ─► each word as it was?
//                                                                            yes: the stack's name
//
// A walk by packed rules reads a return address for each frame, and a frame pointer where a frame
// further out is found by it. Where these words, the registers that it starts from and the rules
// are the same, so are all its frames: nothing has to be walked, hashed or looked up.
//
// Invariants
//   1. A name is found for the very stack that it was given to: every word that the walk depended
//      on is compared, and where an object of the stack might have been unloaded, that it is the
//      same one still.                                                          (comparison test)
//   2. Words are read inside the window alone.
// Locks: none; used by whoever holds the place that it belongs to (quick_walk.cc).
// Called from: quick_walk.cc. Memory: 210 KiB, of which only what is used is touched.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "diag/cfi_object.h"
#include "diag/cfi_walk.h"

namespace slabscope::diag {

struct WalkedFrame {
  uintptr_t pc = 0;
  uintptr_t sp = 0;
  uintptr_t fp = 0;
  uintptr_t fp_slot = 0;       // where fp was loaded from; 0: it is the callee's
  PackedRow row = kNotPacked;  // the rules at pc, once they are known

  bool operator==(const WalkedFrame& other) const {
    return pc == other.pc && sp == other.sp && fp == other.fp;
  }
};

class KnownStacks {
 public:
  // The name of the stack that `start` is in; 0 if it has none.
  [[nodiscard]] uint32_t find(const CfiRegisters& start, const StackWindow& stack);
  // Names the stack of these frames, from a walk's start to its end. It may be forgotten at any
  // time, or not be remembered at all.
  void add(const WalkedFrame* frames, unsigned count, uint32_t name);
  void forget();

 private:
  static constexpr unsigned kProbes = 512;
  static constexpr unsigned kSets = 128;
  static constexpr unsigned kWays = 4;
  static constexpr unsigned kWords = 32;
  static constexpr unsigned kObjects = 2;
  // Adding costs as much as some finds save: beyond kMostDebt it must be earned. Recursion has few
  // stacks twice.
  static constexpr uint32_t kMostDebt = 1024;
  static constexpr uint32_t kPrice = 16;

  struct Stack {
    uint32_t name = 0;  // 0: none
    uint32_t span = 0;  // of the words, from sp, in bytes
    uintptr_t pc = 0;
    uintptr_t sp = 0;
    uintptr_t fp = 0;
    uint16_t words = 0;
    uint8_t objects = 0;
    bool needs_fp = false;
    std::array<uint16_t, kWords> offset{};  // from sp, in words
    std::array<uintptr_t, kWords> value{};
    struct Object {
      uintptr_t pc;
      uint64_t identity;
    };
    std::array<Object, kObjects> object{};
  };
  using Set = std::array<Stack, kWays>;

  struct Probe {
    uintptr_t sp = 0;
    uint32_t offset = 0;  // from sp, in words
  };

  static bool is_same(const Stack& known, const CfiRegisters& start);
  static bool note_words(Stack& stack, const WalkedFrame* frames, unsigned count, unsigned first);
  static bool note_objects(Stack& stack, const WalkedFrame* frames, unsigned count);
  Probe& probe_of(uintptr_t sp);
  Set& set_of(uintptr_t sp, uintptr_t word);

  uint32_t debt_ = 0;
  uint32_t next_way_ = 0;
  std::array<Probe, kProbes> probes_{};
  std::array<Set, kSets> sets_{};
};

}  // namespace slabscope::diag
