// SPDX-License-Identifier: MIT
//
// HeapReader: what fills a HeapImage; one step a kind of memory.
//
// Every number read is checked before it is used: against the limits below, against the mappings,
// against what was found before. Called from: heap_image.cc.

#pragma once

#include <map>
#include <optional>
#include <vector>

#include "exporter/analysis/heap_image.h"

namespace slabscope {

class HeapReader {
 public:
  HeapReader(const MemorySource& memory, const abi::HeapLayout& layout,
             const std::vector<Mapping>& mappings)
      : memory_(memory), layout_(layout), mappings_(mappings) {}

  std::optional<Failure> read_window();
  std::optional<Failure> read_huge();
  std::optional<Failure> read_threads();
  HeapImage take() { return std::move(image_); }

 private:
  // Limits of a walk; far above what an allocator needs, and small enough to hold in memory.
  static constexpr uint64_t kMostChunks = uint64_t{1} << 28;
  static constexpr uint64_t kMostSegments = uint64_t{1} << 22;
  static constexpr uint64_t kMostSlots = uint64_t{1} << 31;
  static constexpr uint64_t kMostHuge = uint64_t{1} << 24;
  static constexpr uint32_t kMostRecordBytes = 65536;
  static constexpr size_t kMostCaches = 65536;

  struct CacheShape {
    bool valid = false;
    uint32_t id = 0;
    uint32_t object_size = 0;
    uint32_t slab_chunks = 0;
    uint32_t capacity = 0;
    bool tracked = false;
  };

  bool sane_layout() const;
  void read_segment(uint64_t segment, uint64_t table);
  void add_slab(uint64_t chunk, uint64_t slab);
  void add_large(uint64_t chunk, uint64_t length);
  std::optional<uint32_t> add_run(HeapRun run);
  void free_chain(const HeapRun& run, uint64_t head, uint64_t count);
  const CacheShape& cache_at(uint64_t address);
  void read_slot(uint64_t slot);
  void read_slow_records(uint64_t pointer_at, uint32_t count);
  void free_list(uint64_t object);
  bool is_mapped(uint64_t begin, uint64_t bytes) const;

  const MemorySource& memory_;
  const abi::HeapLayout& layout_;
  const std::vector<Mapping>& mappings_;
  HeapImage image_;
  std::map<uint64_t, CacheShape> caches_;
  bool full_ = false;  // a limit was reached
};

}  // namespace slabscope
