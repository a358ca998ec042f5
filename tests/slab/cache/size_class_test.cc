// SPDX-License-Identifier: MIT

#include "slab/cache/size_class.h"

#include <gtest/gtest.h>

namespace slabscope {
namespace {

constexpr unsigned kLastId = Config::kOwnId - 1;

TEST(SizeClass, EverySizeIsServedByTheSmallestClassThatHoldsIt) {
  for (size_t size = 0; size <= Config::kSmallMax; ++size) {
    const unsigned id = SizeClass::id_of(size);
    ASSERT_GE(id, Config::kFirstMallocId) << size;
    ASSERT_LE(id, kLastId) << size;
    ASSERT_GE(SizeClass::size_of(id), size);
    if (id > 1) {
      ASSERT_LT(SizeClass::size_of(id - 1), size);
    }
  }
}

TEST(SizeClass, SizesGrowWithTheIdInSteps) {
  for (unsigned id = 2; id <= kLastId; ++id) {
    EXPECT_GT(SizeClass::size_of(id), SizeClass::size_of(id - 1));
    EXPECT_EQ(SizeClass::size_of(id) % Config::kGranule, 0U);
    EXPECT_EQ(SizeClass::id_of(SizeClass::size_of(id)), id);
  }
  EXPECT_EQ(SizeClass::size_of(1), 16U);
  EXPECT_EQ(SizeClass::size_of(kLastId), Config::kSmallMax);
}

TEST(SizeClass, NoMoreThanAnEighthIsWastedAboveTheFineSizes) {
  for (size_t size = 1; size <= Config::kSmallMax; ++size) {
    const size_t waste = SizeClass::size_of(SizeClass::id_of(size)) - size;
    if (size <= Config::kFineMax) {
      ASSERT_LT(waste, Config::kGranule) << size;
    } else {
      ASSERT_LE(waste * 8, size) << size;
    }
  }
}

TEST(SizeClass, FineOffsetIsTheBinsOffsetAndTheRoundedSize) {
  for (size_t size = 1; size <= Config::kFineMax; ++size) {
    ASSERT_EQ(SizeClass::fine_offset(size), SizeClass::id_of(size) * 16);
    ASSERT_EQ(SizeClass::fine_offset(size), SizeClass::size_of(SizeClass::id_of(size)));
  }
  EXPECT_EQ(SizeClass::fine_offset(0), 0U);  // no list: the slow path serves it
}

TEST(SizeClass, AlignedIdsHoldTheSizeAndOnlyAlignedObjects) {
  for (size_t alignment = 1; alignment <= Config::kChunk; alignment *= 2) {
    for (size_t size = 0; size <= Config::kSmallMax; size += size < 2100 ? 1 : 61) {
      const unsigned id = SizeClass::aligned_id_of(size, alignment);
      ASSERT_NE(id, 0U) << size << " at " << alignment;
      ASSERT_GE(SizeClass::size_of(id), size);
      ASSERT_EQ(SizeClass::size_of(id) % alignment, 0U);
      for (unsigned smaller = 1; smaller < id; ++smaller) {
        ASSERT_TRUE(SizeClass::size_of(smaller) < size ||
                    SizeClass::size_of(smaller) % alignment != 0);
      }
    }
  }
}

TEST(SizeClass, WhatNoClassCanAlignHasNoId) {
  EXPECT_EQ(SizeClass::aligned_id_of(1, 2 * Config::kChunk), 0U);
  EXPECT_EQ(SizeClass::aligned_id_of(Config::kSmallMax + 1, 16), 0U);
  EXPECT_NE(SizeClass::aligned_id_of(Config::kSmallMax, Config::kChunk), 0U);
}

TEST(SizeClass, SlabsAreWholeChunksOfEnoughObjects) {
  for (unsigned id = 1; id <= kLastId; ++id) {
    const size_t size = SizeClass::size_of(id);
    const size_t bytes = SizeClass::slab_bytes(size);
    EXPECT_EQ(bytes % Config::kChunk, 0U) << size;
    EXPECT_LE(bytes, size_t{512} << 10) << size;  // Divider is exact below 1 MiB
    EXPECT_GE(bytes / size, size_t{Config::kSlabCoarseObjects}) << size;
    EXPECT_LE(bytes / size, 0xffffU) << size;
    EXPECT_LE(bytes % size * 4, bytes) << size;
    const size_t used = bytes - bytes % size;
    if (bytes / size >= 3) {
      EXPECT_LE((4096 - used % 4096) % 4096 * 7, bytes)
          << size << ": the last page that is touched";
    }
  }
}

}  // namespace
}  // namespace slabscope
