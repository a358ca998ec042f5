// SPDX-License-Identifier: MIT

#include "diag/known_stacks.h"

#include <sys/auxv.h>

namespace slabscope::diag {
namespace {

constexpr uintptr_t kMaxSpan = uintptr_t{UINT16_MAX} * sizeof(uintptr_t);
constexpr uint64_t kMix = 0x9e3779b97f4a7c15U;

uintptr_t word_at(uintptr_t sp, uintptr_t index) {
  return reinterpret_cast<const uintptr_t*>(sp)[index];
}

// What is never unloaded, and in nearly every stack: this library, the program and libc.
struct Lasting {
  ByteRange own;
  ByteRange program;
  ByteRange libc;

  [[nodiscard]] bool contains(uintptr_t pc) const {
    return own.contains(pc) || program.contains(pc) || libc.contains(pc);
  }
};

Lasting lasting_objects(uintptr_t own_pc) {
  return {find_object(own_pc).mapping, find_object(getauxval(AT_ENTRY)).mapping,
          find_object(reinterpret_cast<uintptr_t>(&getauxval)).mapping};
}

}  // namespace

KnownStacks::Probe& KnownStacks::probe_of(uintptr_t sp) {
  return probes_[(sp * kMix >> 32U) % kProbes];
}

KnownStacks::Set& KnownStacks::set_of(uintptr_t sp, uintptr_t word) {
  return sets_[((sp ^ word * kMix) * kMix >> 32U) % kSets];
}

bool KnownStacks::is_same(const Stack& known, const CfiRegisters& start) {
  if (known.sp != start.sp || known.pc != start.pc || known.name == 0 ||
      (known.needs_fp && known.fp != start.fp))
    return false;
  for (unsigned i = 0; i < known.words; ++i) {
    if (word_at(start.sp, known.offset[i]) != known.value[i])
      return false;
  }
  for (unsigned i = 0; i < known.objects; ++i) {
    if (find_object(known.object[i].pc).identity != known.object[i].identity)
      return false;
  }
  return true;
}

uint32_t KnownStacks::find(const CfiRegisters& start, const StackWindow& stack) {
  const Probe& probe = probe_of(start.sp);
  if (probe.sp != start.sp || start.sp < stack.low())
    return 0;
  const uintptr_t room = stack.high() - start.sp;
  if (start.sp > stack.high() || probe.offset >= room / sizeof(uintptr_t))
    return 0;
  for (const Stack& known : set_of(start.sp, word_at(start.sp, probe.offset))) {
    if (known.span <= room && is_same(known, start)) {
      debt_ -= debt_ > 0 ? 1 : 0;
      return known.name;
    }
  }
  return 0;
}

// What the walk depended on: frames from `first` on before those that are in every stack.
bool KnownStacks::note_words(Stack& stack, const WalkedFrame* frames, unsigned count,
                             unsigned first) {
  // Whose frame pointer counts: of a frame whose caller is found by it, and of those it came from.
  std::array<uintptr_t, kWords> fp_slots;
  std::array<uintptr_t, kWords> fps;
  unsigned slots = 0;
  bool needed = false;
  for (unsigned i = count - 1; i-- > 0;) {
    needed |= packed_from_fp(frames[i].row);
    if (i == 0 || !needed || frames[i].fp_slot == 0)
      continue;
    if (slots == kWords)
      return false;
    fp_slots[slots] = frames[i].fp_slot;
    fps[slots++] = frames[i].fp;
    needed = false;
  }
  stack.needs_fp = needed;
  if (count - 1 + slots > kWords)
    return false;
  unsigned words = 0;
  const auto note = [&](uintptr_t address, uintptr_t value) {
    stack.offset[words] = static_cast<uint16_t>((address - stack.sp) / sizeof(uintptr_t));
    stack.value[words++] = value;
  };
  const auto note_return = [&](unsigned i) {
    note(frames[i].sp - sizeof(uintptr_t), frames[i].pc);
  };
  for (unsigned i = first; i < count; ++i)
    note_return(i);
  for (unsigned i = 1; i < first; ++i)
    note_return(i);
  for (unsigned i = 0; i < slots; ++i)
    note(fp_slots[i], fps[i]);
  stack.words = static_cast<uint16_t>(words);
  return true;
}

bool KnownStacks::note_objects(Stack& stack, const WalkedFrame* frames, unsigned count) {
  const Lasting lasting = lasting_objects(frames[0].pc);
  std::array<ByteRange, kObjects> noted;
  stack.objects = 0;
  for (unsigned i = 1; i < count; ++i) {
    const uintptr_t pc = frames[i].pc - 1;
    bool known = lasting.contains(pc);
    for (unsigned k = 0; k < stack.objects; ++k)
      known |= noted[k].contains(pc);
    if (known)
      continue;
    const CfiObject object = find_object(pc);
    if (stack.objects == kObjects || !object.mapping.contains(pc))
      return false;
    noted[stack.objects] = object.mapping;
    stack.object[stack.objects++] = {pc, object.identity};
  }
  return true;
}

void KnownStacks::add(const WalkedFrame* frames, unsigned count, uint32_t name) {
  if (count < 2 || count - 1 > kWords || frames[count - 1].sp - frames[0].sp > kMaxSpan)
    return;
  if (debt_ > kMostDebt) {
    --debt_;
    return;
  }
  debt_ += kPrice;
  Stack stack;
  stack.name = name;
  stack.pc = frames[0].pc;
  stack.sp = frames[0].sp;
  stack.fp = frames[0].fp;
  stack.span = static_cast<uint32_t>(frames[count - 1].sp - frames[0].sp);
  const ByteRange own = find_object(stack.pc).mapping;
  unsigned first = 1;
  while (first + 1 < count && own.contains(frames[first].pc))
    ++first;
  if (!note_words(stack, frames, count, first) || !note_objects(stack, frames, count))
    return;
  probe_of(stack.sp) = {stack.sp, stack.offset[0]};
  Set& set = set_of(stack.sp, stack.value[0]);
  for (Stack& known : set) {
    if (known.name == name && known.sp == stack.sp) {  // its probe was lost
      known = stack;
      return;
    }
  }
  set[next_way_++ % kWays] = stack;
}

void KnownStacks::forget() {
  for (Set& set : sets_) {
    for (Stack& stack : set)
      stack.name = 0;
  }
}

}  // namespace slabscope::diag
