// SPDX-License-Identifier: MIT

#include "slab/pages/page_map.h"

#include <gtest/gtest.h>

namespace slabscope {
namespace {

constexpr uintptr_t kBase = uintptr_t{0x123} << 36;
constexpr size_t kWindow = size_t{64} << 30;
constexpr size_t kChunks = kWindow / Config::kChunk;

char* at(uintptr_t address) {
  return reinterpret_cast<char*>(address);
}

// A map of a window in which nothing is mapped: only its tables are looked at.
class PageMapTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(map_.init(kBase, kWindow)); }
  PageMap map_;
};

TEST(PageMap, FindsNothingBeforeItIsMade) {
  const PageMap map;
  int here = 0;
  EXPECT_EQ(map.chunk_limit(), 0U);
  EXPECT_EQ(map.find(&here), nullptr);
  EXPECT_EQ(map.find(nullptr), nullptr);
}

TEST_F(PageMapTest, ChunkNumbersAndAddressesAreEachOthersInverse) {
  EXPECT_EQ(map_.base(), kBase);
  EXPECT_EQ(map_.bytes(), kWindow);
  EXPECT_EQ(map_.chunk_limit(), kChunks);
  for (size_t index = 0; index < kChunks; index += 12345) {
    auto* address = static_cast<char*>(map_.address_of(index));
    EXPECT_EQ(map_.index_of(address), index);
    EXPECT_EQ(map_.index_of(address + Config::kChunk - 1), index);
  }
}

TEST_F(PageMapTest, AddressesOutsideTheWindowAreBeyondTheLimit) {
  int here = 0;
  for (const char* address : {at(kBase - 1), at(kBase + kWindow), at(0), at(UINTPTR_MAX),
                              reinterpret_cast<char*>(&here)}) {
    EXPECT_GE(map_.index_of(address), map_.chunk_limit());
    EXPECT_EQ(map_.find(address), nullptr);
  }
}

TEST_F(PageMapTest, IdsReadAsZeroOverTheWholeWindowBeforeAnyIsSet) {
  for (size_t index = 0; index < kChunks; index += 1000)
    ASSERT_EQ(map_.id_at(index), 0U);
  EXPECT_EQ(map_.id_at(kChunks - 1), 0U);
}

TEST_F(PageMapTest, CoveringMakesRecordsOfJustTheSegmentsTouched) {
  const size_t index = 10 * Config::kChunksPerSegment + 5;
  EXPECT_EQ(map_.chunk(index), nullptr);
  ASSERT_TRUE(map_.cover(index, Config::kChunksPerSegment));
  ASSERT_NE(map_.chunk(index), nullptr);
  EXPECT_EQ(map_.chunk(index + 1), map_.chunk(index) + 1);
  EXPECT_EQ(map_.chunk(index)->kind.load(), ChunkKind::kNone);
  EXPECT_NE(map_.chunk(11 * Config::kChunksPerSegment), nullptr);
  EXPECT_EQ(map_.chunk(12 * Config::kChunksPerSegment), nullptr);
  EXPECT_EQ(map_.chunk(10 * Config::kChunksPerSegment - 1), nullptr);
  EXPECT_EQ(map_.find(static_cast<char*>(map_.address_of(index)) + 7), map_.chunk(index));
}

TEST_F(PageMapTest, CoveringAgainKeepsTheRecords) {
  ASSERT_TRUE(map_.cover(0, 1));
  Chunk* chunk = map_.chunk(0);
  chunk->length = 17;
  ASSERT_TRUE(map_.cover(0, 2 * Config::kChunksPerSegment));
  EXPECT_EQ(map_.chunk(0), chunk);
  EXPECT_EQ(chunk->length, 17U);
}

TEST_F(PageMapTest, IdsCanBeSetOverAnyCoveredRange) {
  // Far apart, downwards and up to the last chunk: 2 MiB of ids cover 16 GiB.
  const size_t places[] = {kChunks / 2, kChunks - 300, 0, kChunks / 4, kChunks / 2 - 4};
  unsigned id = 1;
  for (const size_t place : places) {
    ASSERT_TRUE(map_.cover(place, 300));
    map_.set_ids(place + 1, 2, id++);
  }
  id = 1;
  for (const size_t place : places) {
    EXPECT_EQ(map_.id_at(place), 0U);
    EXPECT_EQ(map_.id_at(place + 1), id);
    EXPECT_EQ(map_.id_at(place + 2), id++);
    EXPECT_EQ(map_.id_at(place + 3), 0U);
  }
  map_.set_ids(1, 2, 0);
  EXPECT_EQ(map_.id_at(1), 0U);
  EXPECT_EQ(map_.id_at(2), 0U);
}

TEST_F(PageMapTest, IdsHoldEveryCacheNumber) {
  ASSERT_TRUE(map_.cover(0, Config::kMaxCaches));
  for (unsigned id = 0; id < Config::kMaxCaches; ++id)
    map_.set_ids(id, 1, id);
  for (unsigned id = 0; id < Config::kMaxCaches; ++id)
    ASSERT_EQ(map_.id_at(id), id);
}

TEST(PageMap, SaysSoWhenTheTablesCannotBeMapped) {
  PageMap map;
  EXPECT_FALSE(map.init(kBase, size_t{1} << 62));
  EXPECT_EQ(map.chunk_limit(), 0U);
}

}  // namespace
}  // namespace slabscope
