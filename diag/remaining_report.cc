// SPDX-License-Identifier: MIT

#include "diag/remaining_report.h"

#include "diag/frame_text.h"
#include "diag/sort.h"
#include "slab/base/bits.h"
#include "slab/base/clock.h"
#include "slab/pages/vm.h"

namespace slabscope::diag {
namespace {

constexpr unsigned kAddressesPerLine = 4;

// A tracked object of the cache, as a number to sort by: stack first, then age.
struct Found {
  uint64_t when;
  uint32_t stack;
  uint32_t index;
  bool before(const Found& other) const {
    if (stack != other.stack)
      return stack < other.stack;
    return when != other.when ? when < other.when : index < other.index;
  }
};

void write_head(int fd, ScopeFile& file, const RemainingIn& remaining) {
  Line line;
  line.text("slabscope: ").decimal(file.header()->pid).text(" (");
  line.text(file.header()->comm, sizeof file.header()->comm).text("): ");
  const bool group = remaining.owner.what == ObjectsOf::What::kGroup;
  line.text(group ? "group " : "cache ");
  line.text(remaining.name, 64).text(" is not destroyed: ").decimal(remaining.objects);
  line.text(remaining.objects == 1 ? " object" : " objects").text(group ? ", " : " of ");
  line.decimal(remaining.bytes);
  line.text(remaining.objects == 1 ? " bytes is in use" : " bytes are in use");
  if (group && remaining.threads != 0) {
    line.text("; ").decimal(remaining.threads);
    line.text(remaining.threads == 1 ? " thread is in it" : " threads are in it");
  }
  write_line(fd, line.text("\n"));
}

// The objects of one stack.
void write_group(int fd, ScopeFile& file, const StackDepot& depot, const ObjectTable& objects,
                 const Found* group, size_t count) {
  const uint64_t now = monotonic_ns();
  const uint64_t age_ms = now > group->when ? (now - group->when) / 1'000'000 : 0;
  Line line;
  line.text("  ").decimal(count).text(count == 1 ? " object, " : " objects, the oldest ");
  line.decimal(age_ms / 1000).text(".");
  line.text(age_ms % 1000 < 100 ? (age_ms % 1000 < 10 ? "00" : "0") : "").decimal(age_ms % 1000);
  abi::StackRecord* record = depot.find(group->stack);
  write_line(fd, line.text(record != nullptr ? " s old, from\n" : " s old, without a stack\n"));
  if (record != nullptr)
    write_frames(fd, file, record);
  for (size_t i = 0; i < count; i += kAddressesPerLine) {
    Line addresses;
    addresses.text("    at");
    for (size_t k = i; k < count && k < i + kAddressesPerLine; ++k) {
      const abi::ObjectRecord* object = objects.find(group[k].index);
      if (object != nullptr)
        addresses.text(" ").hex(object->address);
    }
    write_line(fd, addresses.text("\n"));
  }
}

void write_groups(int fd, ScopeFile& file, const StackDepot& depot, const ObjectTable& objects,
                  const Found* found, size_t count) {
  size_t first = 0;
  for (size_t i = 1; i <= count; ++i) {
    if (i < count && found[i].stack == found[first].stack)
      continue;
    write_group(fd, file, depot, objects, found + first, i - first);
    first = i;
  }
}

}  // namespace

void report_remaining(int fd, ScopeFile& file, const StackDepot& depot, ObjectTable& objects,
                      const RemainingIn& remaining) {
  size_t tracked = 0;
  for_each_object(file, objects, remaining.owner, [&](uint32_t index, const abi::ObjectRecord&) {
    objects.mark_remained(index);
    ++tracked;
  });
  if (fd < 0)
    return;
  write_head(fd, file, remaining);
  const size_t bytes = align_up(tracked * sizeof(Found), vm::kOsPage);
  auto* found = tracked == 0 ? nullptr : static_cast<Found*>(vm::map(bytes));
  if (found != nullptr) {
    size_t count = 0;
    const auto keep = [&](uint32_t index, const abi::ObjectRecord& object) {
      if (count < tracked)
        found[count++] = {object.when_monotonic_ns, object.stack, index};
    };
    for_each_object(file, objects, remaining.owner, keep);
    heap_sort(found, count, [](const Found& a, const Found& b) { return a.before(b); });
    write_groups(fd, file, depot, objects, found, count);
    vm::unmap(found, bytes);
  }
  if (tracked >= remaining.objects)
    return;
  Line line;
  line.text("  ").decimal(remaining.objects - tracked);
  line.text(remaining.objects - tracked == 1 ? " object has" : " objects have");
  write_line(fd, line.text(" no stack on record (SLABSCOPE_TRACK=all or SLAB_STORE_USER records "
                           "each)\n"));
}

}  // namespace slabscope::diag
