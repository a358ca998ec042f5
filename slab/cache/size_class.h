// SPDX-License-Identifier: MIT
//
// SizeClass: from a request's size to the cache that serves it, and back.
//
//   id   1    2    3  …   64 │   65   66 …   72 │   73 …   80 │ … │   97 …  104
//   size 16   32   48 … 1024 │ 1152 1280 … 2048 │ 2304 … 4096 │ … │ 18K … 32K
//        16 bytes apart      │ 8 classes a doubling: at most 12.5 % waste, 6 % on average
//
// No state; everything is a constant expression. Ids of the fine classes times 16 are their sizes.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "slab/base/bits.h"
#include "slab/base/compiler.h"
#include "slab/base/config.h"
#include "slab/pages/vm.h"

namespace slabscope {

class SizeClass {
 public:
  // Bytes of an object of malloc cache `id`.
  static constexpr size_t size_of(unsigned id) {
    if (id <= Config::kFineClasses)
      return id * Config::kGranule;
    const unsigned coarse = id - Config::kFineClasses - 1;
    const size_t base = Config::kFineMax << (coarse / 8);
    return base + (base / 8) * (coarse % 8 + 1);
  }

  // The id that serves `size` bytes; size <= kSmallMax. Size 0 is served as 1.
  static SC_INLINE unsigned id_of(size_t size) {
    if (SC_LIKELY(size <= Config::kFineMax)) {
      return static_cast<unsigned>(fine_offset(size == 0 ? 1 : size) / 16);
    }
    return coarse_id(size);
  }
  // The same for kFineMax < size <= kSmallMax.
  static SC_INLINE unsigned coarse_id(size_t size) { return kCoarseIds[(size - 1) / kCoarseStep]; }

  // For size <= kFineMax: the byte offset of its 16-byte bin, which is its size rounded up. Size 0
  // gets bin 0, which never has a list: the slow path serves it as size 1.
  static SC_INLINE size_t fine_offset(size_t size) { return (size + 15) & ~size_t{15}; }

  // The id of the smallest class of at least `size` bytes whose objects are all aligned to
  // `alignment` (a power of two, at most kChunk); 0 if there is none.
  static unsigned aligned_id_of(size_t size, size_t alignment) {
    if (size > Config::kSmallMax || alignment > Config::kChunk)
      return 0;
    for (unsigned id = id_of(size < alignment ? alignment : size);
         id < Config::kFirstMallocId + Config::kSizeClasses; ++id) {
      if (size_of(id) % alignment == 0)
        return id;
    }
    return 0;
  }

  // Bytes of one slab of objects of `size` bytes. At most a quarter is left over at its end; of the
  // pages that three or more objects touch, at most a seventh. Slabs of two stay small: they are
  // empty sooner.
  static constexpr size_t slab_bytes(size_t size) {
    const size_t objects =
        size <= Config::kFineMax ? Config::kSlabFineObjects : Config::kSlabCoarseObjects;
    size_t bytes = Config::kSlabLeastBytes;
    while ((bytes < size * objects || bytes % size > bytes / 4 ||
            page_rest(bytes, size) > bytes / 7) &&
           bytes < Config::kSlabMostBytes)
      bytes *= 2;
    return bytes;
  }

 private:
  // What the last page of three or more objects has behind them.
  static constexpr size_t page_rest(size_t bytes, size_t size) {
    if (bytes / size < 3)
      return 0;
    return align_up(bytes - bytes % size, vm::kOsPage) - (bytes - bytes % size);
  }

  static constexpr size_t kCoarseStep = 128;  // the finest step above 1 KiB divides all others

  static constexpr auto make_coarse_ids() {
    std::array<uint8_t, Config::kSmallMax / kCoarseStep> ids{};
    unsigned id = Config::kFineClasses;
    for (size_t i = 0; i < ids.size(); ++i) {
      while (size_of(id) < (i + 1) * kCoarseStep)
        ++id;
      ids[i] = static_cast<uint8_t>(id);
    }
    return ids;
  }
  static const std::array<uint8_t, Config::kSmallMax / kCoarseStep> kCoarseIds;
};

inline constexpr std::array<uint8_t, Config::kSmallMax / SizeClass::kCoarseStep>
    SizeClass::kCoarseIds = SizeClass::make_coarse_ids();

static_assert(SizeClass::size_of(1) == 16 && SizeClass::size_of(64) == 1024);
static_assert(SizeClass::size_of(65) == 1152 && SizeClass::size_of(72) == 2048);
static_assert(SizeClass::size_of(Config::kOwnId - 1) == Config::kSmallMax);

}  // namespace slabscope
