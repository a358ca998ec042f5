// SPDX-License-Identifier: MIT
//
// FakeHeap: the memory of a process with one slab, every byte of it a test's to set.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "diag/abi/heap_layout.h"
#include "exporter/analysis/heap_image.h"
#include "exporter/source/memory_source.h"

namespace slabscope::testing {

// A heap of one slab of 64 objects of 64 bytes, in a window of one segment.
class FakeHeap : public MemorySource {
 public:
  static constexpr uint64_t kBase = 0x100000;
  static constexpr uint64_t kWindow = 0x200000;  // the slab, of one chunk of 4 KiB
  static constexpr uint64_t kSlab = kBase + 0x1000;
  static constexpr uint64_t kCache = kBase + 0x2000;
  static constexpr uint64_t kChunks = kBase + 0x3000;
  static constexpr uint64_t kHuge = kBase + 0x4000;
  static constexpr uint64_t kSlots = kBase + 0x5000;

  FakeHeap() : bytes_(0x200000) {
    layout.window_base_at = kBase;
    layout.chunk_limit_at = kBase + 8;
    layout.segments_at = kBase + 16;
    layout.chunk_shift = 12;
    layout.chunks_per_segment = 4;
    layout.chunk_bytes = 32;
    layout.chunk_length = 4;
    layout.chunk_slab = 16;
    layout.kind_slab = 2;
    layout.kind_large = 3;
    layout.slab_bytes = 64;
    layout.slab_word = 0;
    layout.slab_cache = 8;
    layout.slab_base = 16;
    layout.slab_first_chunk = 24;
    layout.cache_bytes = 32;
    layout.cache_object_size = 4;
    layout.cache_slab_chunks = 8;
    layout.cache_capacity = 12;
    layout.cache_tracked = 16;
    layout.blocks_at = kBase + 24;
    layout.block_count_at = kBase + 32;
    layout.slot_count_at = kBase + 36;
    layout.max_blocks = 1;
    layout.slots_per_block = 1;
    layout.slot_bytes = 4096;
    layout.bin_bytes = 16;
    layout.id_limit = 4;
    layout.slot_slow = 1024;
    layout.slow_bytes = 64;
    layout.huge_entries_at = kBase + 40;
    layout.huge_capacity_at = kBase + 48;
    layout.huge_entry_bytes = 24;
    layout.huge_size = 8;
    put<uint64_t>(kBase, kWindow);
    put<uint64_t>(kBase + 8, 4);
    put<uint64_t>(kBase + 16, kBase + 64);
    put<uint64_t>(kBase + 64, kChunks);
    put<uint8_t>(kChunks, 2);
    put<uint64_t>(kChunks + 16, kSlab);
    set_word(0, 0, 64);
    put<uint64_t>(kSlab + 8, kCache);
    put<uint64_t>(kSlab + 16, kWindow);
    put<uint32_t>(kCache, 1);
    put<uint32_t>(kCache + 4, 64);
    put<uint32_t>(kCache + 8, 1);
    put<uint32_t>(kCache + 12, 64);
    put<uint64_t>(kBase + 24, kSlots);
    put<uint32_t>(kBase + 32, 1);
    put<uint32_t>(kBase + 36, 1);
    put<uint64_t>(kBase + 40, kHuge);
  }

  size_t read(uint64_t address, void* into, size_t bytes) const override {
    if (address < kBase || address - kBase >= bytes_.size()) {
      return 0;
    }
    const size_t count = std::min<size_t>(bytes, bytes_.size() - (address - kBase));
    std::memcpy(into, bytes_.data() + (address - kBase), count);
    return count;
  }
  template <typename T>
  void put(uint64_t address, T value) {
    std::memcpy(bytes_.data() + (address - kBase), &value, sizeof(value));
  }
  void set_word(uint64_t head, uint64_t count, uint64_t carved) {
    put<uint64_t>(kSlab, head | count << 16 | carved << 32);
  }
  static uint64_t object(uint64_t index) { return kWindow + index * 64; }

  uint64_t live(uint64_t* damaged = nullptr) const {
    Mapping mapping;
    mapping.begin = kBase;
    mapping.end = kBase + 0x200000;
    const Result<HeapImage> image = HeapImage::read(*this, layout, {mapping});
    if (!image) {
      return UINT64_MAX;
    }
    uint64_t count = 0;
    for (uint64_t slot = 0; slot < image->slots(); ++slot) {
      count += image->state(slot) == SlotState::kLive ? 1 : 0;
    }
    if (damaged != nullptr) {
      *damaged = image->damaged();
    }
    return count;
  }

  abi::HeapLayout layout{};

 private:
  std::vector<unsigned char> bytes_;
};

}  // namespace slabscope::testing
