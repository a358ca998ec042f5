// SPDX-License-Identifier: MIT
//
// Groups as the tools read them: names, sums, offline ones, and files that lie about them.

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "exporter/output/json.h"
#include "exporter/output/prometheus.h"
#include "exporter/source/attach.h"
#include "exporter/source/group_totals.h"
#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScratchDirectory;
using testing::SegmentBuilder;

// malloc-64 (id 4) with 3 objects in no group, 5 and 7 in two groups.
SegmentBuilder grouped() {
  SegmentBuilder builder;
  builder.add_cache(4, "malloc-64", 64);
  const auto child = [&](uint32_t id, uint32_t group) {
    abi::CacheRecord& record = builder.add_cache(id, "malloc-64", 64);
    record.parent = 4;
    record.group = group;
  };
  child(124, 1);
  child(231, 2);
  builder.add_group(1, "reader", 2);
  builder.add_group(2, "writer", 0);
  builder.count(0, 4, 10, 7);
  builder.count(0, 124, 5, 0);
  builder.count(0, 231, 9, 2);
  return builder;
}

Snapshot read(const SegmentBuilder& builder) {
  ScratchDirectory directory;
  const auto file = builder.write(directory);
  Result<Snapshot> snapshot = attach(file.path());
  EXPECT_TRUE(snapshot) << snapshot.failure().message;
  return snapshot ? std::move(*snapshot) : Snapshot{};
}

TEST(Groups, CachesKnowTheirGroup) {
  const Snapshot snapshot = read(grouped());
  ASSERT_EQ(snapshot.groups.size(), 2U);
  ASSERT_EQ(snapshot.caches.size(), 3U);
  EXPECT_EQ(snapshot.caches[0].label(), "malloc-64");
  EXPECT_EQ(snapshot.caches[1].label(), "malloc-64(reader)");
  EXPECT_EQ(snapshot.caches[2].group_name, "writer");
  EXPECT_FALSE(snapshot.groups[0].offline());
  EXPECT_TRUE(snapshot.groups[1].offline());
}

TEST(Groups, TotalsAddUp) {
  const Snapshot snapshot = read(grouped());
  const std::vector<GroupTotals> totals = group_totals(snapshot);
  ASSERT_EQ(totals.size(), 3U);
  EXPECT_EQ(totals[0].name, "");
  EXPECT_EQ(totals[0].active_objects, 3U);
  EXPECT_EQ(totals[1].active_bytes, 5U * 64);
  EXPECT_EQ(totals[2].active_objects, 7U);
  EXPECT_EQ(totals[2].allocations, 9U);
  uint64_t bytes = 0;
  for (const GroupTotals& entry : totals)
    bytes += entry.active_bytes;
  EXPECT_EQ(bytes, active_bytes(snapshot));
}

TEST(Groups, JsonNamesThem) {
  const auto json = snapshot_json(read(grouped()));
  EXPECT_EQ(json["caches"][1]["group"], "reader");
  EXPECT_EQ(json["caches"][0]["group"], "");
  EXPECT_EQ(json["groups"][1]["threads"], 2);
  EXPECT_EQ(json["groups"][1]["state"], "live");
  EXPECT_EQ(json["groups"][2]["state"], "offline");
  EXPECT_EQ(json["groups"][2]["active_objects"], 7);
  EXPECT_FALSE(json["groups"][0].contains("threads"));
}

TEST(Groups, WhatTheFileDoesNotExplainIsInNoGroup) {
  SegmentBuilder builder = grouped();
  builder.add_group(1, "reader", 2).state = 77;
  abi::CacheRecord& record = builder.add_cache(300, "malloc-80", 80);
  record.group = 4'000'000'000;
  builder.count(0, 300, 1, 0);
  const Snapshot snapshot = read(builder);
  ASSERT_EQ(snapshot.groups.size(), 1U);
  EXPECT_EQ(snapshot.caches[1].group_name, "group-1");
  EXPECT_EQ(snapshot.caches[3].group_name, "group-4000000000");
  const std::vector<GroupTotals> totals = group_totals(snapshot);
  EXPECT_EQ(totals[0].active_objects, 3U + 5 + 1);
}

}  // namespace
}  // namespace slabscope
