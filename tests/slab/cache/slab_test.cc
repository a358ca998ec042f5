// SPDX-License-Identifier: MIT

#include "slab/cache/slab.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <set>
#include <vector>

#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

TEST(SlabWord, PacksAndUnpacksAllFields) {
  for (const uint16_t head : std::initializer_list<uint16_t>{0, 1, 4096, 0xffff}) {
    for (const uint16_t count : std::initializer_list<uint16_t>{0, 7, 0xffff}) {
      for (const uint16_t carved : std::initializer_list<uint16_t>{0, 1, 0x8000, 0xffff}) {
        for (const SlabState state : {SlabState::kFull, SlabState::kPartial, SlabState::kCurrent}) {
          const SlabWord word{head, count, carved, state};
          const SlabWord again = SlabWord::unpack(word.pack());
          EXPECT_EQ(again.head, head);
          EXPECT_EQ(again.count, count);
          EXPECT_EQ(again.carved, carved);
          EXPECT_EQ(again.state, state);
        }
      }
    }
  }
}

TEST(SlabWord, CarvingIsAnAdditionToThePackedWord) {
  const SlabWord word{5, 3, 10, SlabState::kCurrent};
  const SlabWord carved = SlabWord::unpack(word.pack() + (uint64_t{7} << 32));
  EXPECT_EQ(carved.carved, 17U);
  EXPECT_EQ(carved.head, 5U);
  EXPECT_EQ(carved.count, 3U);
  EXPECT_EQ(carved.state, SlabState::kCurrent);
  EXPECT_EQ(carved.out(), 14U);
}

TEST(Slab, ReplaceFailsOnAChangedWordAndTellsTheNewOne) {
  Slab slab;
  SlabWord expected{1, 1, 2, SlabState::kPartial};
  EXPECT_FALSE(slab.replace(expected, SlabWord{9, 9, 9, SlabState::kFull}));
  EXPECT_EQ(expected.pack(), 0U);
  const SlabWord wanted{3, 4, 5, SlabState::kCurrent};
  while (!slab.replace(expected, wanted)) {
  }
  EXPECT_EQ(slab.load().pack(), wanted.pack());
}

TEST(Chain, PushBuildsAListWithBothEnds) {
  FreeObject objects[3];
  Chain chain;
  for (FreeObject& object : objects)
    chain.push(&object);
  EXPECT_EQ(chain.count, 3U);
  EXPECT_EQ(chain.head, &objects[2]);
  EXPECT_EQ(chain.tail, &objects[0]);
  EXPECT_EQ(objects[2].next, &objects[1]);
  EXPECT_EQ(objects[1].next, &objects[0]);
  EXPECT_EQ(objects[0].next, nullptr);
}

TEST(Slab, RecordsAreDistinctAlignedAndReused) {
  std::set<Slab*> records;
  for (int i = 0; i < 100; ++i) {
    Slab* slab = slab_record_new();
    ASSERT_NE(slab, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(slab) % 64, 0U);
    EXPECT_FALSE(slab->linked());
    EXPECT_TRUE(records.insert(slab).second);
  }
  for (Slab* slab : records)
    slab_record_delete(slab);
  std::vector<Slab*> again;
  for (int i = 0; i < 100; ++i) {
    again.push_back(slab_record_new());
    EXPECT_EQ(records.count(again.back()), 1U);
  }
  for (Slab* slab : again)
    slab_record_delete(slab);
}

}  // namespace
}  // namespace slabscope
