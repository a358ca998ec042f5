// SPDX-License-Identifier: MIT

#include "exporter/analysis/heap_profile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "exporter/source/object_summary.h"
#include "tests/exporter/heap_fixture.h"
#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::HeapBuilder;
using testing::kProgram;
using testing::typical_heap;

TEST(HeapProfile, IsExactWhenEverythingIsTracked) {
  const HeapProfile profile = typical_heap().build();
  ASSERT_EQ(profile.stacks.size(), 3u);
  const HeapStack& node = profile.stacks[0];
  EXPECT_EQ(node.bytes.value, 100000);
  EXPECT_EQ(node.objects.value, 1000);
  EXPECT_EQ(node.bytes.standard_error(), 0);
  EXPECT_EQ(node.samples, 1000u);
  EXPECT_FALSE(node.estimated);
  EXPECT_FALSE(profile.estimated);
  EXPECT_EQ(node.caches, std::vector<std::string>{"malloc-112"});
  EXPECT_EQ(profile.frames[node.stack[0]].offset, 0x1234u);
  EXPECT_EQ(profile.stacks[1].bytes.value, 2000);
  EXPECT_EQ(profile.stacks[2].bytes.value, 1024);
  EXPECT_TRUE(profile.stacks[2].stack.empty());
  EXPECT_EQ(profile.exact_objects, 1003u);
  EXPECT_EQ(profile.exact_bytes, 112000u + 3 * 1024);
  EXPECT_EQ(sum_of(profile).bytes.value, 103024);
}

TEST(HeapProfile, AgesCountFromNowOrFromTheEnd) {
  HeapBuilder builder = typical_heap();
  builder.add_objects(1, 100, builder.snapshot.stacks[0].handle, 7, 180 * kSecondNs);
  HeapProfile profile = builder.build();
  EXPECT_DOUBLE_EQ(*profile.stacks[0].oldest_seconds, 70);
  EXPECT_DOUBLE_EQ(*profile.stacks[0].newest_seconds, 10);
  EXPECT_DOUBLE_EQ(profile.time_seconds, 1'700'000'090);
  builder.snapshot.target.state = TargetState::kExited;
  builder.snapshot.target.end_monotonic_ns = 185 * kSecondNs;
  EXPECT_DOUBLE_EQ(*builder.build().stacks[0].newest_seconds, 5);
  builder.snapshot.target.state = TargetState::kDied;
  builder.snapshot.target.end_monotonic_ns = 0;
  profile = builder.build();
  EXPECT_DOUBLE_EQ(*profile.stacks[0].newest_seconds, 9) << "the buffer's came last, at 189 s";
  EXPECT_DOUBLE_EQ(profile.time_seconds, 1'700'000'089);
}

TEST(HeapProfile, WeighsEachSampleByItsOwnSize) {
  HeapBuilder builder(1000);
  const uint32_t stack = builder.add_stack({kProgram + 5});
  builder.add_objects(3, 10, stack);
  builder.add_objects(2, 5000, stack);
  const HeapProfile profile = builder.build();
  const double small = object_weight(10, 1000);
  const double large = object_weight(5000, 1000);
  ASSERT_EQ(profile.stacks.size(), 1u);
  const HeapStack& mixed = profile.stacks[0];
  EXPECT_TRUE(mixed.estimated);
  EXPECT_EQ(mixed.samples, 5u);
  EXPECT_NEAR(mixed.objects.value, 3 * small + 2 * large, 1e-6);
  EXPECT_NEAR(mixed.bytes.value, 30 * small + 10000 * large, 1e-6);
  EXPECT_NEAR(mixed.objects.variance, 3 * small * (small - 1) + 2 * large * (large - 1), 1e-6);
  EXPECT_EQ(mixed.smallest, 10u);
  EXPECT_EQ(mixed.largest, 5000u);
}

// Draws samples as the shim does, many times: the mean estimate is the truth, and the mean of the
// estimated variances is the variance that was seen.
TEST(HeapProfile, EstimatesAreUnbiasedAndKnowTheirError) {
  constexpr uint32_t kInterval = 4096;
  constexpr size_t kRounds = 4000;
  const std::vector<uint64_t> sizes = {8, 16, 100, 1000, 4096, 20000};
  constexpr size_t kOfEach = 50;
  std::mt19937_64 random(20231114);
  double truth = 0;
  for (const uint64_t size : sizes) {
    truth += static_cast<double>(size * kOfEach);
  }
  double sum = 0;
  double squares = 0;
  double variances = 0;
  double counts = 0;
  for (size_t round = 0; round < kRounds; ++round) {
    HeapGroups groups;
    for (const uint64_t size : sizes) {
      const double chance = -std::expm1(-static_cast<double>(size) / kInterval);
      std::bernoulli_distribution taken(chance);
      for (size_t i = 0; i < kOfEach; ++i) {
        if (taken(random)) {
          groups.add({0x1000 + i, size, 1, 100, kInterval, 7});
        }
      }
    }
    const auto group = groups.groups().find(100);
    const HeapGroup seen = group == groups.groups().end() ? HeapGroup() : group->second;
    sum += seen.bytes.value;
    squares += (seen.bytes.value - truth) * (seen.bytes.value - truth);
    variances += seen.bytes.variance;
    counts += seen.objects.value;
  }
  const double variance = squares / kRounds;
  EXPECT_NEAR(sum / kRounds, truth, 4 * std::sqrt(variance / kRounds));
  EXPECT_NEAR(variances / kRounds / variance, 1, 0.1);
  EXPECT_NEAR(counts / kRounds / static_cast<double>(sizes.size() * kOfEach), 1, 0.2);
}

TEST(HeapProfile, TotalsHoldWhatWasFreedToo) {
  HeapBuilder builder;
  const uint32_t live = builder.add_stack({kProgram + 5});
  const uint32_t gone = builder.add_stack({kProgram + 9});
  builder.add_objects(2, 100, live);
  builder.add_freed(10, 100, live);
  builder.add_freed(5, 50, gone);
  EXPECT_EQ(builder.build().stacks.size(), 1u);
  const HeapProfile profile = builder.build(Freed::kInclude);
  ASSERT_EQ(profile.stacks.size(), 2u);
  EXPECT_EQ(profile.stacks[0].total_objects, 12);
  EXPECT_EQ(profile.stacks[0].total_bytes, 1200);
  EXPECT_EQ(profile.stacks[1].total_objects, 5);
  EXPECT_EQ(profile.stacks[1].objects.value, 0);
}

TEST(HeapProfile, FreedSamplesWeighAsLiveOnes) {
  HeapBuilder builder(1000);
  const uint32_t stack = builder.add_stack({kProgram + 5});
  builder.add_freed(4, 250, stack);
  builder.snapshot.target.sample_interval = 7;  // the shim weighed them when they were taken
  const HeapProfile profile = builder.build(Freed::kInclude);
  ASSERT_EQ(profile.stacks.size(), 1u);
  EXPECT_NEAR(profile.stacks[0].total_objects, 4 * object_weight(250, 1000), 1e-6);
  EXPECT_NEAR(profile.stacks[0].total_bytes, 1000 * object_weight(250, 1000), 1);
}

TEST(HeapProfile, ReadsAScopeFileWithoutKeepingItsObjects) {
  testing::ScratchDirectory directory;
  testing::SegmentBuilder builder;
  builder.add_cache(7, "malloc-112", 112);
  builder.count(0, 7, 10, 4);
  builder.add_module("/srv/app/server", kProgram, kProgram + 0x10000);
  const uint32_t stack = builder.add_stack({kProgram + 5}, 6, 600);
  for (uint64_t i = 1; i <= 6; ++i) {
    builder.add_object(i * 4096, 100, stack, 7);
  }
  const testing::ScopeFile file = builder.write(directory);
  Result<HeapReading> reading = read_heap(file.path());
  ASSERT_TRUE(reading.ok()) << reading.failure().message;
  EXPECT_TRUE(reading->snapshot.objects.empty());
  const HeapProfile profile = HeapBuilder::profile_of(std::move(*reading));
  ASSERT_EQ(profile.stacks.size(), 1u);
  EXPECT_EQ(profile.stacks[0].bytes.value, 600);
  EXPECT_EQ(profile.exact_objects, 6u);
}

TEST(HeapProfile, AMissingFileIsAFailure) {
  EXPECT_FALSE(read_heap("/nonexistent/file.scope").ok());
}

}  // namespace
}  // namespace slabscope
