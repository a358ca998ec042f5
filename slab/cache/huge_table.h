// SPDX-License-Identifier: MIT
//
// HugeTable: the mappings that are blocks of their own, by address.
//
// Open addressing over a power of two of entries in mapped memory; grows by copying at 5/8 full.
// Deleting shifts the entries behind back, so that there are no tombstones. Guarded by the caller.

#pragma once

#include <cstddef>
#include <cstdint>

namespace slabscope {

struct HugeEntry {
  uintptr_t address;  // 0: unused
  size_t bytes;
  uint32_t record;
  uint32_t owner;  // cache id that it counts under
};

class HugeTable {
 public:
  constexpr HugeTable() = default;
  // nullptr if there is none. Valid until the next insert() or erase().
  HugeEntry* find(const void* address);
  [[nodiscard]] bool insert(void* address, size_t bytes, uint32_t record, uint32_t owner = 0);
  void erase(HugeEntry* entry);

 private:
  friend struct HeapLayoutWriter;  // preload/: describes the heap to tools

  [[nodiscard]] bool grow();
  size_t slot_of(uintptr_t address) const {
    // Mappings are page-aligned and often megabytes apart: mix all the bits (Fibonacci hashing).
    return static_cast<size_t>((address * 0x9e3779b97f4a7c15) >> 32) & (capacity_ - 1);
  }

  HugeEntry* entries_ = nullptr;
  size_t capacity_ = 0;
  size_t count_ = 0;
};

}  // namespace slabscope
