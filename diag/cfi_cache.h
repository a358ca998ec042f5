// SPDX-License-Identifier: MIT
//
// cfi_cache: the rules of common frames in one word, remembered by pc for all threads.
//
//   key = mix(pc, object) ──low bits──► 2 × [ check | rule ]        hit: check == key ^ mix(rule)
//
//   rule  15 bits        1          48 bits
//         CFA / 8        from fp?   a byte for each of rbx rbp r12..r15: 0 kept, n at CFA - 8n
//         0 and from fp: the outermost frame. Every stack ends in one, so it must be cheap too.
//
// Invariants
//   1. A word is a rule only with its own check: an entry torn between two writers, or of another
//      pc or object, is a miss.                                                (cache test)
//   2. The return address is at CFA - 8, or there is none; frames of any other form are not packed.
//                                                                                 (pack test)
// Locks: none; relaxed atomics, since an entry means nothing beyond its two words.
// Called from: cfi_walk.cc. 16 KiB of .bss, a page at first: a process that never walks has none of
// it in memory.
// Why the object is in the key: a library may be replaced by another at the same addresses. A
// rebuilt one that has the same functions in the same places may leave a stale rule; it can
// mislead a stack, but not the walk's checks.

#pragma once

#include <cstdint>

#include "diag/cfi_rules.h"
#include "slab/base/compiler.h"

namespace slabscope::diag {

// The common form of a row; 0 for none.
using PackedRow = uint64_t;
inline constexpr PackedRow kNotPacked = 0;
inline constexpr PackedRow kPackedEnd = 1;  // no caller
inline constexpr unsigned kPackedRegisters = 6;
inline constexpr std::array<unsigned, kPackedRegisters> kPackedRegister = {
    kCfiBx, kCfiFp, kCfiR12, kCfiR13, kCfiR14, kCfiR15};

[[nodiscard]] PackedRow pack(const CfiRow& row);

SC_INLINE bool packed_from_fp(PackedRow row) {
  return (row & 1U) != 0;
}
SC_INLINE uintptr_t packed_cfa(PackedRow row) {
  return (row >> 1U & 0x7fffU) * 8;
}
// The bytes for kPackedRegister, the first lowest.
SC_INLINE uint64_t packed_slots(PackedRow row) {
  return row >> 16U;
}

// Of them the one for rbp: n of CFA - 8n, 0 if it is unchanged.
SC_INLINE uintptr_t packed_fp_slot(PackedRow row) {
  return row >> 24U & 0xffU;
}

// Names `pc` in the object that `object` identifies.
SC_INLINE uint64_t cache_key(uintptr_t pc, uint64_t object) {
  const uint64_t mixed = (pc ^ (object * 0x9e3779b97f4a7c15U)) * 0xff51afd7ed558ccdU;
  return mixed ^ mixed >> 32U;
}

// kNotPacked if it is not there.
[[nodiscard]] PackedRow cache_find(uint64_t key);
void cache_store(uint64_t key, PackedRow row);

}  // namespace slabscope::diag
