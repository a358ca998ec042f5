// SPDX-License-Identifier: MIT

#include "diag/quick_walk.h"

#include <array>
#include <atomic>

#include "diag/cfi_cache.h"
#include "diag/cfi_object.h"
#include "diag/known_stacks.h"
#include "slab/base/bits.h"
#include "slab/base/sole_thread.h"
#include "slab/base/test_point.h"
#include "slab/pages/vm.h"

namespace slabscope::diag {
namespace {

constexpr unsigned kPlacesLog2 = 7;
constexpr unsigned kPlaces = 1U << kPlacesLog2;
constexpr unsigned kTries = 4;
constexpr unsigned kMostFrames = abi::kMaxFrames + 16;  // a caller may skip some

using Frame = WalkedFrame;

struct Walk {
  unsigned count = 0;
  bool to_the_end = false;
  std::array<Frame, kMostFrames> frames;
};

struct Memory {
  unsigned current = 0;  // of `walks`, the last one
  std::array<Walk, 2> walks;
  uint64_t serial = 0;  // of the last walk that was complete
};

struct alignas(64) Place {
  std::atomic<uint64_t> taken{0};
  Memory* memory = nullptr;      // once it was used
  KnownStacks* known = nullptr;  // once a stack was named
};
constinit std::array<Place, kPlaces> g_places{};

template <typename Content>
bool has_memory(Content*& content) {
  constexpr size_t kBytes = align_up(sizeof(Content), vm::kOsPage);
  if (SC_UNLIKELY(content == nullptr)) {
    content = static_cast<Content*>(vm::map(kBytes));
    if (content != nullptr)
      vm::exclude_from_dumps(content, kBytes);
  }
  return content != nullptr;
}

// The thread's own place, or one of those behind it; nullptr if all are taken.
Place* take_place() {
  // Thread blocks lie whole pages apart.
  const auto thread = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
  const auto first = static_cast<unsigned>(thread * 0x9e3779b97f4a7c15U >> (64U - kPlacesLog2));
  for (unsigned i = 0; i < kTries; ++i) {
    Place& place = g_places[(first + i) % kPlaces];
    uint64_t taken = 0;
    if (exchange_if(place.taken, taken, 1, std::memory_order_acquire))
      return &place;
  }
  return nullptr;
}

SC_NOINLINE PackedRow read_row(const CfiObject& object, uintptr_t pc, uint64_t key) {
  CfiPlace place;
  find_rules(object, pc, key, place);
  return place.packed;
}

PackedRow row_at(CfiObject& object, uintptr_t pc) {
  if (!object.mapping.contains(pc))
    object = find_object(pc);
  if (!object.mapping.contains(pc))
    return kNotPacked;
  const uint64_t key = cache_key(pc, object.identity);
  const PackedRow row = cache_find(key);
  return SC_LIKELY(row != kNotPacked) ? row : read_row(object, pc, key);
}

// The caller of `frame`; one with pc 0 if it cannot be had.
Frame step(const Frame& frame, StackWindow& stack) {
  Frame caller;
  const uintptr_t base = packed_from_fp(frame.row) ? frame.fp : frame.sp;
  const uintptr_t cfa = base + packed_cfa(frame.row);
  if (SC_UNLIKELY(!is_plausible_frame(frame.sp, cfa)))
    return caller;
  const auto back = stack.load(cfa - sizeof(uintptr_t));
  if (SC_UNLIKELY(!back))
    return caller;
  caller.fp = frame.fp;
  if (const uintptr_t words = packed_fp_slot(frame.row); words != 0) {
    caller.fp_slot = cfa - words * sizeof(uintptr_t);
    const auto fp = caller.fp_slot < frame.sp ? std::nullopt : stack.load(caller.fp_slot);
    if (SC_UNLIKELY(!fp))
      return caller;
    caller.fp = *fp;
  }
  caller.sp = cfa;
  caller.pc = *back;
  return caller;
}

uintptr_t word_at(uintptr_t address) {
  return *reinterpret_cast<const uintptr_t*>(address);
}

// Whether `caller`, of the last walk, still is the caller of a frame that is unchanged.
bool is_unchanged(const Frame& caller) {
  return word_at(caller.sp - sizeof(uintptr_t)) == caller.pc &&
         (caller.fp_slot == 0 || word_at(caller.fp_slot) == caller.fp);
}

class Walker {
 public:
  Walker(const Walk& last, Walk& now, unsigned max, StackWindow& stack)
      : stack_(stack),
        first_(now.frames.data()),
        newest_(first_),
        end_(first_ + max),
        last_first_(last.frames.data()),
        last_end_(last_first_ + last.count),
        last_to_the_end_(last.to_the_end),
        seen_(last_first_) {}

  // False: a frame of another form, or junk.
  bool run(const Frame& start) {
    *newest_ = start;
    do {
      if (take_over())
        return to_the_end_ = true;
      Frame& frame = *newest_;
      if (newest_ == end_)
        break;
      if (frame.row == kNotPacked)
        frame.row = rules_of_newest();
      if (frame.row == kPackedEnd)
        return to_the_end_ = true;
      if (SC_UNLIKELY(frame.row == kNotPacked))
        return false;
      *++newest_ = step(frame, stack_);
      if (SC_UNLIKELY(!is_code_address(newest_->pc)))
        return false;
    } while (newest_ != end_);
    return true;
  }

  [[nodiscard]] unsigned count() const { return static_cast<unsigned>(newest_ + 1 - first_); }
  [[nodiscard]] bool to_the_end() const { return to_the_end_; }

 private:
  // Paths through the allocator are few: what was at the same depth is mostly the same place.
  PackedRow rules_of_newest() {
    const uintptr_t pc = newest_->pc;
    const Frame* same = last_first_ + (newest_ - first_);
    if (same < last_end_ && same->pc == pc && same->row != kNotPacked)
      return same->row;
    // A call may be the last instruction of its function: the return address is beyond it.
    return row_at(object_, pc - (newest_ == first_ ? 0 : 1));
  }

  // Adds the callers of the newest frame that are those of the last walk. True: up to the outermost
  // one.
  bool take_over() {
    const Frame* seen = seen_;
    while (seen < last_end_ && seen->sp < newest_->sp)
      ++seen;
    seen_ = seen;
    if (seen == last_end_ || !(*seen == *newest_))
      return false;
    newest_->row = seen->row;
    if (newest_->sp < stack_.low() || last_end_[-1].sp > stack_.high())
      return false;
    Frame* newest = newest_;
    while (++seen < last_end_ && newest < end_ && is_unchanged(*seen))
      *++newest = *seen;
    newest_ = newest;
    seen_ = seen;
    return seen == last_end_ && last_to_the_end_;
  }

  StackWindow& stack_;
  Frame* const first_;
  Frame* newest_;
  Frame* const end_;  // the last one there may be
  const Frame* const last_first_;
  const Frame* const last_end_;
  const bool last_to_the_end_;
  bool to_the_end_ = false;
  const Frame* seen_;  // the first of the last walk that is not below the newest
  CfiObject object_;
};

void leave_place(Place& place) {
  place.taken.store(0, std::memory_order_release);
}

SC_NOINLINE QuickWalk walk_in(Place& place, uintptr_t* frames, unsigned max,
                              const CfiRegisters& start, StackWindow& stack) {
  QuickWalk result;
  if (SC_UNLIKELY(!has_memory(place.memory)))
    return result;
  Memory& memory = *place.memory;
  Walk& now = memory.walks[1 - memory.current];
  Walker walker(memory.walks[memory.current], now, max, stack);
  result.complete = walker.run({start.pc, start.sp, start.fp});
  if (result.complete) {
    now.count = walker.count();
    now.to_the_end = walker.to_the_end();
    memory.current = 1 - memory.current;
    ++memory.serial;
    result.count = now.count - 1;
    for (unsigned i = 0; i < result.count; ++i)
      frames[i] = now.frames[i + 1].pc;
  }
  return result;
}

}  // namespace

SC_NOINLINE QuickWalk quick_walk(uintptr_t* frames, unsigned max, const CfiRegisters& start,
                                 StackWindow& stack) {
  Place* place = max < kMostFrames ? take_place() : nullptr;
  if (place == nullptr)
    return {};
  SC_TEST_POINT(kWalkHeld, 0);
  const QuickWalk result = walk_in(*place, frames, max, start, stack);
  leave_place(*place);
  return result;
}

SC_NOINLINE QuickWalk quick_walk_named(uintptr_t* frames, unsigned max, const CfiRegisters& start,
                                       StackWindow& stack, WalkName& name) {
  name = {};
  Place* place = max < kMostFrames ? take_place() : nullptr;
  if (place == nullptr)
    return {};
  QuickWalk result;
  if (place->known != nullptr)
    name.name = place->known->find(start, stack);
  if (SC_LIKELY(name.name != 0)) {
    result.complete = true;
  } else {
    result = walk_in(*place, frames, max, start, stack);
    name.place = static_cast<uint32_t>(place - g_places.data());
    name.walk = result.complete ? place->memory->serial : 0;
  }
  leave_place(*place);
  return result;
}

void name_walk(const WalkName& walk, uint32_t name) {
  Place& place = g_places[walk.place % kPlaces];
  uint64_t taken = 0;
  if (walk.walk == 0 || !exchange_if(place.taken, taken, 1, std::memory_order_acquire))
    return;
  if (place.memory != nullptr && place.memory->serial == walk.walk && has_memory(place.known)) {
    const Walk& last = place.memory->walks[place.memory->current];
    place.known->add(last.frames.data(), last.count, name);
  }
  leave_place(place);
}

void quick_walk_after_fork() {
  for (Place& place : g_places) {
    if (place.taken.load(std::memory_order_relaxed)) {
      if (place.memory != nullptr)
        place.memory->walks[0].count = place.memory->walks[1].count = 0;
      if (place.known != nullptr)
        place.known->forget();
      leave_place(place);
    }
  }
}

}  // namespace slabscope::diag
