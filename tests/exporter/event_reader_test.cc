// SPDX-License-Identifier: MIT
//
// EventReader against rings as the shim writes them, and as it never would.

#include "exporter/source/event_reader.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScopeFile;
using testing::ScratchDirectory;
using testing::SegmentBuilder;

uint64_t event_at(uint64_t number) {
  return abi::kEventsOffset + (number - 1) % abi::kMaxEvents * sizeof(abi::EventRecord);
}

void put(ScopeFile& file, uint64_t number, uint64_t value) {
  abi::EventRecord record{};
  record.sequence = number;
  record.kind = static_cast<uint32_t>(abi::EventKind::kCacheDetached);
  record.cache = 130;
  record.value = value;
  std::strcpy(record.name, "conns");
  file.poke(event_at(number), record);
  file.poke(offsetof(abi::Header, events) + offsetof(abi::Section, used), number);
}

TEST(EventReader, TellsEachEventOnce) {
  ScratchDirectory scratch;
  ScopeFile file = SegmentBuilder().write(scratch);
  Result<EventReader> reader = EventReader::open(file.path());
  ASSERT_TRUE(reader);
  EXPECT_TRUE(reader->next().events.empty());
  put(file, 1, 11);
  put(file, 2, 22);
  EventReader::Batch batch = reader->next();
  ASSERT_EQ(batch.events.size(), 2U);
  EXPECT_EQ(batch.lost, 0U);
  EXPECT_EQ(batch.events[1].number, 2U);
  EXPECT_EQ(batch.events[1].value, 22U);
  EXPECT_EQ(batch.events[1].name, "conns");
  EXPECT_TRUE(reader->next().events.empty());
  put(file, 3, 33);
  EXPECT_EQ(reader->next().events.size(), 1U);
}

TEST(EventReader, CountsWhatItWasTooSlowFor) {
  ScratchDirectory scratch;
  ScopeFile file = SegmentBuilder().write(scratch);
  Result<EventReader> reader = EventReader::open(file.path());
  ASSERT_TRUE(reader);
  put(file, 1, 1);
  EXPECT_EQ(reader->next().events.size(), 1U);
  for (uint64_t number = 2; number <= 2 * abi::kMaxEvents; ++number)
    put(file, number, number);
  const EventReader::Batch batch = reader->next();
  EXPECT_EQ(batch.lost, abi::kMaxEvents - 1);
  ASSERT_EQ(batch.events.size(), abi::kMaxEvents);
  EXPECT_EQ(batch.events.front().number, abi::kMaxEvents + 1);
}

TEST(EventReader, TheFirstLookLosesNothing) {
  ScratchDirectory scratch;
  ScopeFile file = SegmentBuilder().write(scratch);
  for (uint64_t number = 1; number <= abi::kMaxEvents + 50; ++number)
    put(file, number, number);
  Result<EventReader> reader = EventReader::open(file.path());
  ASSERT_TRUE(reader);
  const EventReader::Batch batch = reader->next();
  EXPECT_EQ(batch.lost, 0U);
  EXPECT_EQ(batch.events.size(), abi::kMaxEvents);
}

TEST(EventReader, ARecordThatIsHalfWrittenIsLeftOut) {
  ScratchDirectory scratch;
  ScopeFile file = SegmentBuilder().write(scratch);
  for (uint64_t number = 1; number <= 3; ++number)
    put(file, number, number);
  file.poke(event_at(2), uint64_t{0});  // killed in between
  Result<EventReader> reader = EventReader::open(file.path());
  ASSERT_TRUE(reader);
  const EventReader::Batch batch = reader->next();
  EXPECT_EQ(batch.lost, 1U);
  ASSERT_EQ(batch.events.size(), 2U);
  EXPECT_EQ(batch.events[1].number, 3U);
}

TEST(EventReader, SurvivesWildNumbers) {
  ScratchDirectory scratch;
  for (const uint64_t used : {UINT64_MAX, UINT64_MAX - 1, uint64_t{1} << 63}) {
    ScopeFile file = SegmentBuilder().write(scratch, "wild.scope");
    put(file, 1, 1);
    file.poke(offsetof(abi::Header, events) + offsetof(abi::Section, used), used);
    Result<EventReader> reader = EventReader::open(file.path());
    ASSERT_TRUE(reader);
    EXPECT_TRUE(reader->next().events.empty());
    EXPECT_TRUE(reader->next().events.empty());
  }
}

TEST(EventReader, ASectionThatDoesNotFitIsRefused) {
  ScratchDirectory scratch;
  for (const size_t section : {offsetof(abi::Header, events), offsetof(abi::Header, peaks)}) {
    ScopeFile file = SegmentBuilder().write(scratch, "bad.scope");
    file.poke(section + offsetof(abi::Section, offset), abi::kFileBytes);
    EXPECT_FALSE(EventReader::open(file.path()));
  }
}

}  // namespace
}  // namespace slabscope
