// SPDX-License-Identifier: MIT
//
// read_heap_peak against files as the shim leaves them, and as it never would.

#include "exporter/analysis/heap_peak.h"

#include <gtest/gtest.h>

#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScopeFile;
using testing::ScratchDirectory;
using testing::SegmentBuilder;

constexpr uint64_t kHead = offsetof(abi::PeakRecord, caches);

uint64_t peak_at(uint64_t epoch) {
  return abi::kPeaksOffset + epoch % abi::kMaxPeaks * abi::kPeakRecordBytes;
}

void put_peak(ScopeFile& file, uint64_t epoch, const std::vector<abi::PeakCache>& caches) {
  uint64_t objects = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < caches.size(); ++i) {
    file.poke(peak_at(epoch) + kHead + i * sizeof(abi::PeakCache), caches[i]);
    objects += caches[i].objects;
    bytes += caches[i].bytes;
  }
  file.poke(peak_at(epoch) + offsetof(abi::PeakRecord, monotonic_ns), uint64_t{5'000'000'000});
  file.poke(peak_at(epoch) + offsetof(abi::PeakRecord, objects), objects);
  file.poke(peak_at(epoch) + offsetof(abi::PeakRecord, bytes), bytes);
  file.poke(peak_at(epoch) + offsetof(abi::PeakRecord, cache_count),
            static_cast<uint32_t>(caches.size()));
  file.poke(peak_at(epoch), epoch);
  file.poke(offsetof(abi::Header, peak_epoch), epoch);
}

void keep(ScopeFile& file, uint32_t stack, uint32_t epoch, uint32_t samples, uint64_t bytes) {
  const uint64_t record = abi::kDepotOffset + uint64_t{stack} * 8;
  file.poke(record + offsetof(abi::StackRecord, peak_epoch), epoch);
  file.poke(record + offsetof(abi::StackRecord, peak_samples), samples);
  file.poke(record + offsetof(abi::StackRecord, peak_estimated_bytes), bytes);
  file.poke(record + offsetof(abi::StackRecord, peak_estimated_milliobjects),
            uint64_t{samples} * 1000);
}

SegmentBuilder populated(uint32_t& first, uint32_t& second) {
  SegmentBuilder builder;
  builder.add_cache(7, "malloc-112", 112);
  first = builder.add_stack({0x1000}, 2, 200);
  second = builder.add_stack({0x2000}, 3, 300);
  return builder;
}

TEST(HeapPeak, TakesWhatWasKeptAndWhatHasNotChanged) {
  ScratchDirectory scratch;
  uint32_t first = 0;
  uint32_t second = 0;
  ScopeFile file = populated(first, second).write(scratch);
  put_peak(file, 3, {{7, 0, 40, 4480}, {130, 9, 2, 64}});
  keep(file, first, 3, 37, 3700);
  keep(file, second, 2, 99, 9900);  // of an earlier one
  const auto peak = read_heap_peak(file.path());
  ASSERT_TRUE(peak && *peak);
  EXPECT_EQ((*peak)->bytes, 4544U);
  EXPECT_EQ((*peak)->objects, 42U);
  EXPECT_EQ((*peak)->monotonic_ns, 5'000'000'000U);
  const auto& groups = (*peak)->reading.groups.groups();
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_EQ(groups.at(first).bytes.value, 3700);
  EXPECT_EQ(groups.at(first).objects.value, 37);
  EXPECT_FALSE(groups.at(first).estimated);
  EXPECT_EQ(groups.at(second).bytes.value, 300);
  const auto& caches = (*peak)->reading.snapshot.caches;
  ASSERT_EQ(caches.size(), 2U);
  EXPECT_EQ(caches[0].name, "malloc-112");
  EXPECT_EQ(caches[0].active_objects(), 40U);
  EXPECT_EQ(caches[0].active_bytes(), 4480U);
  EXPECT_EQ(caches[1].name, "cache-130");  // gone, and its id is another's
}

TEST(HeapPeak, NoneIsNotAnError) {
  ScratchDirectory scratch;
  uint32_t first = 0;
  uint32_t second = 0;
  ScopeFile file = populated(first, second).write(scratch);
  const auto peak = read_heap_peak(file.path());
  ASSERT_TRUE(peak);
  EXPECT_FALSE(*peak);
  EXPECT_FALSE(read_heap_peak(scratch.path() + "/none.scope"));
}

TEST(HeapPeak, WildRecordsAreSurvived) {
  ScratchDirectory scratch;
  uint32_t first = 0;
  uint32_t second = 0;
  for (const uint64_t epoch : {uint64_t{1}, uint64_t{2}, UINT64_MAX}) {
    ScopeFile file = populated(first, second).write(scratch, "wild.scope");
    put_peak(file, epoch, {{UINT32_MAX, 0, UINT64_MAX, UINT64_MAX}, {0, 0, 0, 0}});
    file.poke(peak_at(epoch) + offsetof(abi::PeakRecord, cache_count), UINT32_MAX);
    keep(file, first, static_cast<uint32_t>(epoch), UINT32_MAX, UINT64_MAX);
    const auto peak = read_heap_peak(file.path());
    ASSERT_TRUE(peak && *peak);
    EXPECT_LE((*peak)->reading.snapshot.caches.size(), abi::kMaxCaches);
  }
  // Named, but not there.
  ScopeFile file = populated(first, second).write(scratch, "torn.scope");
  file.poke(offsetof(abi::Header, peak_epoch), uint64_t{4});
  const auto peak = read_heap_peak(file.path());
  ASSERT_TRUE(peak);
  EXPECT_FALSE(*peak);
}

}  // namespace
}  // namespace slabscope
