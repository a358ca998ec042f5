// SPDX-License-Identifier: MIT
//
// ObjectChecks: what a cache that is debugged writes around its objects and into free ones, and
// whether it is still there. Values and names are Linux's (SLAB_RED_ZONE, SLAB_POISON).
//
//   place    │ link │ mark │ red zone │ object        │ red zone, or padding │
//   in use                   cc cc …    the program's   cc cc …    5a 5a …
//   free                     bb bb …    6b 6b … 6b a5   bb bb …    5a 5a …
//
// A program that writes before or behind its object changes a red zone; one that writes into what
// it has freed changes the poison. Both are found when the object changes hands the next time, when
// its slab leaves the cache, or when somebody asks (the attribute `validate`). Red zones differ
// between free and in use, so that a copy of one over the other shows too. Objects that keep their
// state from free to alloc, or that readers may look at while they are free, are not poisoned.
//
// Invariants
//   1. Whoever fills or looks holds g_object_checks_mutex, or is the only one who knows the place
//      (prepare). The mark says which state holds, and changes under the same lock.
//   2. Looking says what it found; the program is stopped by the caller, who has let go: a handler
//      of abort() may allocate.
// Locks: g_object_checks_mutex, a leaf. One for all caches: they are debugged, so they are slow.
// Called from: object_cache_checks.cc.

#pragma once

#include <cstddef>
#include <cstdint>

#include "slab/base/mutex.h"

namespace slabscope {

// Between free and in use nobody may look. See invariant 1.
extern constinit Mutex g_object_checks_mutex;

class ObjectChecks {
 public:
  // Bytes of a red zone, at least; before the object as many more as its alignment asks for.
  static constexpr uint32_t kLeastZone = 8;

  enum class State : uint8_t { kFree, kInUse };
  enum class Part : uint8_t { kNone, kBefore, kObject, kBehind, kPadding };

  // The first byte that is not as it was left; kNone: all are.
  struct Damage {
    Part part = Part::kNone;
    State state = State::kFree;
    uint8_t found = 0;
    uint8_t expected = 0;
    int32_t offset = 0;  // from the object's start
    uint32_t bytes = 0;  // that differ, in that part
  };

  struct Layout {
    uint32_t head;    // bytes that are not ours, at the place's start
    uint32_t object;  // where the object starts in its place
    uint32_t size;
    uint32_t place;  // bytes
    bool red_zone;
    bool poison_object;
    bool poison_padding;
  };

  constexpr ObjectChecks() = default;
  explicit ObjectChecks(const Layout& layout) : layout_(layout) {}

  // Whether there is anything to fill or to look at.
  bool any() const { return layout_.red_zone || layout_.poison_object || layout_.poison_padding; }
  // Bytes behind the object that are not the program's.
  uint32_t tail() const { return any() ? layout_.place - layout_.object - layout_.size : 0; }

  // Makes the place that of an object in this state.
  void fill(void* place, State state) const;
  // What is not as fill() left it.
  [[nodiscard]] Damage look(const void* place, State state) const;

 private:
  template <typename Visit>
  void for_each_region(State state, Visit visit) const;

  Layout layout_{};
};

}  // namespace slabscope
