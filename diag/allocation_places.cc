// SPDX-License-Identifier: MIT

#include "diag/allocation_places.h"

#include "diag/frame_text.h"
#include "diag/objects_of.h"
#include "diag/sort.h"
#include "slab/base/bits.h"
#include "slab/base/clock.h"
#include "slab/pages/vm.h"

namespace slabscope::diag {
namespace {

// Text of which the caller may want a part.
class Bounded {
 public:
  Bounded(char* text, size_t size) : text_(text), size_(size) {
    if (size_ > 0)
      text_[0] = '\0';
  }
  void add(const Line& line) {
    for (size_t i = 0; i < line.size(); ++i, ++length_) {
      if (length_ + 1 < size_) {
        text_[length_] = line.data()[i];
        text_[length_ + 1] = '\0';
      }
    }
  }
  size_t length() const { return length_; }

 private:
  char* text_;
  size_t size_;
  size_t length_ = 0;
};

// Objects of one place; at first one.
struct Place {
  uint64_t pc;  // 0: no stack
  uint32_t generation;
  uint64_t count;
  uint64_t least_ms;
  uint64_t most_ms;
  uint64_t sum_ms;

  bool same(const Place& other) const { return pc == other.pc && generation == other.generation; }
  void add(const Place& other) {
    count += other.count;
    sum_ms += other.sum_ms;
    least_ms = other.least_ms < least_ms ? other.least_ms : least_ms;
    most_ms = other.most_ms > most_ms ? other.most_ms : most_ms;
  }
};

Place place_of(ScopeFile& file, const StackDepot& depot, const abi::ObjectRecord& object,
               uint64_t now_ns) {
  const uint64_t when = object.when_monotonic_ns;
  const uint64_t age_ms = now_ns > when ? (now_ns - when) / 1'000'000 : 0;
  Place place{.pc = 0,
              .generation = 0,
              .count = 1,
              .least_ms = age_ms,
              .most_ms = age_ms,
              .sum_ms = age_ms};
  abi::StackRecord* stack = depot.find(object.stack);
  if (stack != nullptr) {
    place.pc = program_frame(file, stack);
    place.generation = stack->generation;
  }
  return place;
}

// One entry a place, most objects first. Returns how many.
size_t merge(Place* places, size_t count) {
  heap_sort(places, count, [](const Place& a, const Place& b) {
    return a.pc != b.pc ? a.pc < b.pc : a.generation < b.generation;
  });
  size_t merged = 0;
  for (size_t i = 0; i < count; ++i) {
    if (merged > 0 && places[merged - 1].same(places[i]))
      places[merged - 1].add(places[i]);
    else
      places[merged++] = places[i];
  }
  heap_sort(places, merged, [](const Place& a, const Place& b) {
    return a.count != b.count ? a.count > b.count : a.pc < b.pc;
  });
  return merged;
}

void write(Bounded& text, ScopeFile& file, const Place& place) {
  Line line;
  line.decimal(place.count, 7).text(" ");  // Linux's "%7ld"
  if (place.pc == 0)
    line.text("<not-available>");
  else
    add_place(line, file, place.pc, place.generation);
  line.text(" age=").decimal(place.least_ms);
  if (place.least_ms != place.most_ms)
    line.text("/").decimal(place.sum_ms / place.count).text("/").decimal(place.most_ms);
  text.add(line.text(" pid=").decimal(file.header()->pid).text("\n"));
}

}  // namespace

size_t write_allocation_places(ScopeFile& file, const StackDepot& depot, const ObjectTable& objects,
                               uint32_t cache, char* text, size_t size) {
  const ObjectsOf owner{ObjectsOf::What::kCache, cache};
  size_t tracked = 0;
  for_each_object(file, objects, owner, [&](uint32_t, const abi::ObjectRecord&) { ++tracked; });
  const size_t bytes = align_up(tracked * sizeof(Place), vm::kOsPage);
  auto* places = tracked == 0 ? nullptr : static_cast<Place*>(vm::map(bytes));
  Bounded out(text, size);
  if (places == nullptr)
    return 0;
  size_t count = 0;
  const uint64_t now_ns = coarse_monotonic_ns();
  for_each_object(file, objects, owner, [&](uint32_t, const abi::ObjectRecord& object) {
    if (count < tracked)
      places[count++] = place_of(file, depot, object, now_ns);
  });
  count = merge(places, count);
  for (size_t i = 0; i < count; ++i)
    write(out, file, places[i]);
  vm::unmap(places, bytes);
  return out.length();
}

size_t write_allocation_place(ScopeFile& file, const StackDepot& depot, const ObjectTable& objects,
                              uint32_t index, char* text, size_t size) {
  const abi::ObjectRecord* object = objects.find(index);
  abi::StackRecord* stack = object == nullptr ? nullptr : depot.find(object->stack);
  Bounded out(text, size);
  if (stack == nullptr)
    return 0;
  Line line;
  add_place(line, file, program_frame(file, stack), stack->generation);
  out.add(line);
  return out.length();
}

}  // namespace slabscope::diag
