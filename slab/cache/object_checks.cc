// SPDX-License-Identifier: MIT

#include "slab/cache/object_checks.h"

namespace slabscope {
namespace {

// Linux's, from include/linux/poison.h.
constexpr uint8_t kRedInactive = 0xbb;  // SLUB_RED_INACTIVE
constexpr uint8_t kRedActive = 0xcc;    // SLUB_RED_ACTIVE
constexpr uint8_t kPoisonInUse = 0x5a;  // POISON_INUSE
constexpr uint8_t kPoisonFree = 0x6b;   // POISON_FREE
constexpr uint8_t kPoisonEnd = 0xa5;    // POISON_END

}  // namespace

// The filled bytes of all places, and their marks.
constinit Mutex g_object_checks_mutex;

// Calls visit(part, first byte, one past the last, value); false ends it.
template <typename Visit>
void ObjectChecks::for_each_region(State state, Visit visit) const {
  const uint8_t zone = state == State::kFree ? kRedInactive : kRedActive;
  const uint32_t end = layout_.object + layout_.size;
  if (layout_.red_zone && !visit(Part::kBefore, layout_.head, layout_.object, zone))
    return;
  if (layout_.poison_object && state == State::kFree &&
      (!visit(Part::kObject, layout_.object, end - 1, kPoisonFree) ||
       !visit(Part::kObject, end - 1, end, kPoisonEnd))) {
    return;
  }
  if (layout_.red_zone) {
    visit(Part::kBehind, end, layout_.place, zone);
  } else if (layout_.poison_padding) {
    visit(Part::kPadding, end, layout_.place, kPoisonInUse);
  }
}

void ObjectChecks::fill(void* place, State state) const {
  for_each_region(state, [&](Part, uint32_t begin, uint32_t end, uint8_t value) {
    __builtin_memset(static_cast<char*>(place) + begin, value, end - begin);
    return true;
  });
}

ObjectChecks::Damage ObjectChecks::look(const void* place, State state) const {
  const auto* bytes = static_cast<const uint8_t*>(place);
  Damage damage;
  for_each_region(state, [&](Part part, uint32_t begin, uint32_t end, uint8_t value) {
    for (uint32_t i = begin; i < end; ++i) {
      if (bytes[i] == value)
        continue;
      if (damage.part == Part::kNone) {
        damage = {.part = part,
                  .state = state,
                  .found = bytes[i],
                  .expected = value,
                  .offset = static_cast<int32_t>(i) - static_cast<int32_t>(layout_.object)};
      }
      ++damage.bytes;
    }
    return damage.part == Part::kNone;
  });
  return damage;
}

}  // namespace slabscope
