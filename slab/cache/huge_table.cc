// SPDX-License-Identifier: MIT

#include "slab/cache/huge_table.h"

#include "slab/base/bits.h"
#include "slab/pages/vm.h"

namespace slabscope {
namespace {

constexpr size_t kFirstCapacity = vm::kOsPage / 32;  // entries that surely fit one OS page

size_t bytes_for(size_t capacity) {
  return align_up(capacity * sizeof(HugeEntry), vm::kOsPage);
}

}  // namespace

HugeEntry* HugeTable::find(const void* address) {
  if (count_ == 0)
    return nullptr;
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  for (size_t i = slot_of(wanted); entries_[i].address != 0; i = (i + 1) & (capacity_ - 1)) {
    if (entries_[i].address == wanted)
      return &entries_[i];
  }
  return nullptr;
}

bool HugeTable::grow() {
  const size_t old_capacity = capacity_;
  HugeEntry* old_entries = entries_;
  const size_t capacity = old_capacity == 0 ? kFirstCapacity : old_capacity * 2;
  void* memory = vm::map(bytes_for(capacity));
  if (memory == nullptr)
    return false;
  entries_ = static_cast<HugeEntry*>(memory);
  capacity_ = capacity;
  for (size_t i = 0; i < old_capacity; ++i) {
    if (old_entries[i].address == 0)
      continue;
    size_t slot = slot_of(old_entries[i].address);
    while (entries_[slot].address != 0)
      slot = (slot + 1) & (capacity_ - 1);
    entries_[slot] = old_entries[i];
  }
  if (old_entries != nullptr)
    vm::unmap(old_entries, bytes_for(old_capacity));
  return true;
}

bool HugeTable::insert(void* address, size_t bytes, uint32_t record, uint32_t owner) {
  if ((count_ + 1) * 8 > capacity_ * 5 && !grow())
    return false;
  const auto key = reinterpret_cast<uintptr_t>(address);
  size_t slot = slot_of(key);
  while (entries_[slot].address != 0)
    slot = (slot + 1) & (capacity_ - 1);
  entries_[slot] = {key, bytes, record, owner};
  ++count_;
  return true;
}

void HugeTable::erase(HugeEntry* entry) {
  size_t hole = static_cast<size_t>(entry - entries_);
  // Entries behind the hole move into it unless their own slot lies between the hole and them.
  for (size_t i = (hole + 1) & (capacity_ - 1); entries_[i].address != 0;
       i = (i + 1) & (capacity_ - 1)) {
    const size_t home = slot_of(entries_[i].address);
    const size_t from_home = (i - home) & (capacity_ - 1);
    const size_t from_hole = (i - hole) & (capacity_ - 1);
    if (from_home < from_hole)
      continue;
    entries_[hole] = entries_[i];
    hole = i;
  }
  entries_[hole] = {};
  --count_;
}

}  // namespace slabscope
