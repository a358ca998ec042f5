// SPDX-License-Identifier: MIT

#include "exporter/analysis/heap_growth.h"

#include <gtest/gtest.h>

#include <cmath>

#include "exporter/source/object_summary.h"
#include "tests/exporter/heap_fixture.h"

namespace slabscope {
namespace {

using testing::HeapBuilder;
using testing::kProgram;

struct TwoLooks {
  HeapProfile before;
  HeapProfile now;
};

// Stack 1 grows by `more` objects of 100 bytes, stack 2 loses all its 5 of 64, stack 3 stays.
TwoLooks two_looks(uint32_t interval, size_t more, HeapGroups::Remember remember) {
  HeapBuilder builder(interval);
  const uint32_t grows = builder.add_stack({kProgram + 1});
  const uint32_t goes = builder.add_stack({kProgram + 2});
  const uint32_t stays = builder.add_stack({kProgram + 3});
  builder.add_objects(10, 100, grows);
  builder.add_objects(7, 1000, stays);
  HeapBuilder later = builder;
  builder.add_objects(5, 64, goes);
  later.add_objects(more, 100, grows, 7, 180 * kSecondNs);
  later.snapshot.target.read_monotonic_ns += 60 * kSecondNs;
  const HeapReading first = heap_reading(builder.snapshot, HeapGroups(remember));
  HeapReading second = heap_reading(
      later.snapshot, HeapGroups(HeapGroups::Remember::kNo,
                                 remember == HeapGroups::Remember::kYes ? &first.groups : nullptr));
  return {HeapBuilder::profile_of(first), HeapBuilder::profile_of(std::move(second))};
}

TEST(HeapGrowth, IsTheDifferenceStackByStack) {
  const TwoLooks looks = two_looks(1, 4, HeapGroups::Remember::kNo);
  const HeapGrowth growth = heap_growth(looks.before, looks.now);
  ASSERT_EQ(growth.stacks.size(), 2u) << "what stayed is not listed";
  const GrownStack& grown = growth.stacks[0];
  EXPECT_EQ(grown.bytes.value, 400);
  EXPECT_EQ(grown.objects.value, 4);
  EXPECT_EQ(grown.objects_before.value, 10);
  EXPECT_EQ(grown.now.objects.value, 14);
  EXPECT_TRUE(grown.certain());
  EXPECT_EQ(growth.frames[grown.now.stack[0]].offset, 1u);
  EXPECT_EQ(growth.stacks[1].bytes.value, -320);
  EXPECT_EQ(growth.stacks[1].now.samples, 0u);
  EXPECT_EQ(growth.bytes.value, 80) << "the sum is the difference of the sums";
  EXPECT_EQ(growth.objects.value, -1);
  EXPECT_DOUBLE_EQ(growth.seconds, 60);
  EXPECT_FALSE(growth.estimated);
}

TEST(HeapGrowth, OfAHeapWithItselfIsNothing) {
  for (const uint32_t interval : {1u, 1000u}) {
    const HeapProfile profile = testing::typical_heap(interval).build();
    const HeapGrowth growth = heap_growth(profile, profile);
    EXPECT_TRUE(growth.stacks.empty());
    EXPECT_EQ(growth.bytes.value, 0);
  }
}

TEST(HeapGrowth, SamplesInBothLooksHaveNoError) {
  const double weight = object_weight(100, 1000);
  const double of_one = weight * (weight - 1) * 100 * 100;
  const TwoLooks known = two_looks(1000, 4, HeapGroups::Remember::kYes);
  const GrownStack related = heap_growth(known.before, known.now).stacks[0];
  EXPECT_NEAR(related.bytes.value, 400 * weight, 1e-6);
  EXPECT_NEAR(related.bytes.variance, 4 * of_one, 1e-6 * of_one);
  const TwoLooks unknown = two_looks(1000, 4, HeapGroups::Remember::kNo);
  const GrownStack unrelated = heap_growth(unknown.before, unknown.now).stacks[0];
  EXPECT_NEAR(unrelated.bytes.variance, (10 + 14) * of_one, 1e-6 * of_one);
}

TEST(HeapGrowth, WithinTwoErrorsIsNotCertain) {
  const TwoLooks few = two_looks(100000, 2, HeapGroups::Remember::kYes);
  EXPECT_FALSE(heap_growth(few.before, few.now).stacks[0].certain());
  const TwoLooks many = two_looks(100000, 100, HeapGroups::Remember::kYes);
  EXPECT_TRUE(heap_growth(many.before, many.now).stacks[0].certain());
}

TEST(HeapGrowth, AnotherBuildsFramesAreTheSameFrames) {
  HeapBuilder old_build;
  HeapBuilder new_build;
  new_build.snapshot.modules[1].build_id.assign(20, 0x11);
  old_build.add_objects(1, 100, old_build.add_stack({kProgram + 1}));
  new_build.add_objects(3, 100, new_build.add_stack({kProgram + 1}));
  const HeapGrowth growth = heap_growth(old_build.build(), new_build.build());
  ASSERT_EQ(growth.stacks.size(), 1u);
  EXPECT_EQ(growth.stacks[0].objects.value, 2);
}

}  // namespace
}  // namespace slabscope
