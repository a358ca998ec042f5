// SPDX-License-Identifier: MIT
//
// EventRing: numbers without gaps, the newest kept, whole records under many writers.

#include "diag/event_ring.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

class EventRingTest : public testing::ScopeFixture {
 protected:
  void SetUp() override {
    ScopeFixture::SetUp();
    open_tables();
    ring_.init(file());
  }
  uint64_t newest() {
    return read_at<abi::Section>(file().path(), offsetof(abi::Header, events)).used;
  }
  abi::EventRecord record(uint64_t number) {
    return read_at<abi::EventRecord>(
        file().path(),
        abi::kEventsOffset + (number - 1) % abi::kMaxEvents * sizeof(abi::EventRecord));
  }

  EventRing ring_;
};

TEST_F(EventRingTest, KeepsWhatItWasTold) {
  ring_.add({.kind = abi::EventKind::kDestroyRefused,
             .tid = 4711,
             .cache = 130,
             .generation = 3,
             .name = "conns",
             .value = 17,
             .other_value = 5});
  EXPECT_EQ(newest(), 1U);
  const abi::EventRecord seen = record(1);
  EXPECT_EQ(seen.sequence, 1U);
  EXPECT_EQ(seen.kind, static_cast<uint32_t>(abi::EventKind::kDestroyRefused));
  EXPECT_EQ(seen.tid, 4711U);
  EXPECT_EQ(seen.cache, 130U);
  EXPECT_EQ(seen.generation, 3U);
  EXPECT_STREQ(seen.name, "conns");
  EXPECT_EQ(seen.value, 17U);
  EXPECT_EQ(seen.other_value, 5U);
  EXPECT_GE(seen.monotonic_ns, file().header()->start_monotonic_ns);
  EXPECT_GE(seen.realtime_ns, file().header()->start_realtime_ns);
  EXPECT_EQ(file().counters().events, 1U);
}

TEST_F(EventRingTest, OverwritesTheOldest) {
  constexpr uint64_t kCount = 3 * uint64_t{abi::kMaxEvents} + 7;
  for (uint64_t i = 1; i <= kCount; ++i)
    ring_.add({.kind = abi::EventKind::kCacheCreated, .value = i});
  EXPECT_EQ(newest(), kCount);
  for (uint64_t number = kCount - abi::kMaxEvents + 1; number <= kCount; ++number) {
    ASSERT_EQ(record(number).sequence, number);
    ASSERT_EQ(record(number).value, number);
  }
}

TEST_F(EventRingTest, ManyWritersLeaveWholeRecords) {
  constexpr uint64_t kThreads = 4;
  constexpr uint64_t kEach = 2000;
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([this, thread] {
      for (uint64_t i = 0; i < kEach; ++i) {
        const uint64_t value = thread << 32 | i;
        const std::string name = std::to_string(value);
        ring_.add({.kind = abi::EventKind::kCacheCreated,
                   .name = name.c_str(),
                   .value = value,
                   .other_value = ~value});
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(newest(), kThreads * kEach);
  EXPECT_EQ(file().counters().events_cache_created, kThreads * kEach);
  std::set<uint64_t> values;
  for (uint64_t number = newest() - abi::kMaxEvents + 1; number <= newest(); ++number) {
    const abi::EventRecord seen = record(number);
    ASSERT_EQ(seen.sequence, number);
    ASSERT_EQ(seen.other_value, ~seen.value);
    ASSERT_EQ(seen.name, std::to_string(seen.value));
    ASSERT_TRUE(values.insert(seen.value).second);
  }
}

TEST_F(EventRingTest, EachKindIsCountedThoughTheRingWraps) {
  for (uint32_t kind = 1; kind <= abi::kLastEventKind; ++kind) {
    for (uint64_t i = 0; i < 200 + kind; ++i)
      ring_.add({.kind = static_cast<abi::EventKind>(kind)});
  }
  ring_.add_if_free({.kind = abi::EventKind::kMisuse});
  ASSERT_GT(newest(), uint64_t{abi::kMaxEvents});
  const abi::ProcessCounters& counters = file().counters();
  EXPECT_EQ(counters.events_cache_created, 201U);
  EXPECT_EQ(counters.events_destroy_refused, 202U);
  EXPECT_EQ(counters.events_cache_destroyed, 203U);
  EXPECT_EQ(counters.events_cache_detached, 204U);
  EXPECT_EQ(counters.events_cache_released, 205U);
  EXPECT_EQ(counters.events_cache_shrunk, 206U);
  EXPECT_EQ(counters.events_tracking_switched, 207U);
  EXPECT_EQ(counters.events_out_of_memory, 208U);
  EXPECT_EQ(counters.events_threads_full, 209U);
  EXPECT_EQ(counters.events_memory_released, 210U);
  EXPECT_EQ(counters.events_request_refused, 211U);
  EXPECT_EQ(counters.events_misuse, 213U);
  EXPECT_EQ(counters.events, newest());
}

TEST_F(EventRingTest, WhatTheFileSaysOfTheNewestIsNotBelieved) {
  ring_.add({.kind = abi::EventKind::kCacheCreated});
  file().header()->events.used = UINT64_MAX;
  ring_.add({.kind = abi::EventKind::kCacheDestroyed});
  EXPECT_EQ(newest(), 2U);
  EXPECT_EQ(record(2).sequence, 2U);
}

}  // namespace
}  // namespace slabscope::diag
