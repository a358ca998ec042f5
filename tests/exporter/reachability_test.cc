// SPDX-License-Identifier: MIT
//
// Reachability on a heap of which every pointer is known: one case a test.

#include "exporter/analysis/reachability.h"

#include <gtest/gtest.h>

#include <vector>

#include "exporter/analysis/lost_objects.h"
#include "tests/exporter/fake_process.h"

namespace slabscope {
namespace {

using testing::kStackPointer;
using testing::Process;

TEST(Reachability, WhatNothingLeadsToIsDefinite) {
  EXPECT_EQ(Process(2).classes(), "DD");
}

TEST(Reachability, AChainIsReachableToItsEnd) {
  Process process(3);
  process.put(kStackPointer, Process::object(0));
  process.points(0, Process::object(1));
  process.points(1, Process::object(2));
  EXPECT_EQ(process.classes(), "RRR");
}

TEST(Reachability, ALostChainHangsOnItsHead) {
  Process process(3);
  process.points(2, Process::object(1));
  process.points(1, Process::object(0));
  EXPECT_EQ(process.classes(), "IID");
  EXPECT_EQ(process.lost.slots, (std::vector<uint64_t>{0, 1, 2}));
  EXPECT_EQ(process.lost.first, (std::vector<uint64_t>{0, 0, 1, 2}));
  EXPECT_EQ(process.lost.targets, (std::vector<uint32_t>{0, 1}));
}

TEST(Reachability, ObjectsOfACycleAreEachOthers) {
  Process process(3);
  process.points(0, Process::object(1));
  process.points(1, Process::object(0));
  process.points(2, Process::object(2));
  EXPECT_EQ(process.classes(), "IID") << "a pointer of an object to itself does not count";
}

TEST(Reachability, APointerToTheLastByteCountsAndOnePastTheEndDoesNot) {
  Process process(3);
  process.requested(0, 60);
  process.requested(1, 60);
  process.put(kStackPointer, Process::object(0) + 59);
  process.put(kStackPointer + 8, Process::object(1) + 60);
  EXPECT_EQ(process.classes(), "RDD");
}

TEST(Reachability, WithoutARecordTheWholeSlotCounts) {
  Process process(1);
  process.put(kStackPointer, Process::object(0) + 63);
  EXPECT_EQ(process.classes(), "R");
}

TEST(Reachability, OnlyAlignedWordsArePointers) {
  Process process(2);
  process.put(kStackPointer + 4, Process::object(0));
  process.put(kStackPointer + 16, Process::object(1));
  EXPECT_EQ(process.classes(), "DR");
}

TEST(Reachability, WhatLiesBehindTheRequestedSizeIsNoPointer) {
  Process process(2);
  process.requested(0, 8);
  process.put(kStackPointer, Process::object(0));
  process.put(Process::object(0) + 8, Process::object(1));
  EXPECT_EQ(process.classes(), "RD");
}

TEST(Reachability, AnArrayOfNoneIsHeldByWhatLiesBehindItsCount) {
  Process process(2);
  process.requested(0, 8);
  process.put<uint64_t>(Process::object(0), 0);
  process.put(kStackPointer, Process::object(0) + 8);
  EXPECT_EQ(process.classes(), "RD");
}

// ---- who leads to whom ------------------------------------------------------------------------

LostObjects graph(const std::vector<std::vector<uint32_t>>& edges) {
  LostObjects lost;
  for (const std::vector<uint32_t>& targets : edges) {
    lost.first.push_back(lost.targets.size());
    lost.targets.insert(lost.targets.end(), targets.begin(), targets.end());
    lost.group.push_back(0);
    lost.bytes.push_back(1);
  }
  lost.first.push_back(lost.targets.size());
  return lost;
}

TEST(LostObjects, EachHasTheMarkOfTheNearestThatLeadsToIt) {
  // 0 ─► 2 ─► 3 ─► 4 ◄─ 1, and 5 ◄─► 6, which nobody leads to.
  const LostObjects lost = graph({{2}, {4}, {3}, {4}, {}, {6}, {5}});
  std::vector<uint32_t> marks(7, kNoMark);
  marks[0] = 10;
  marks[1] = 11;
  spread(lost, marks);
  EXPECT_EQ(marks, (std::vector<uint32_t>{10, 11, 10, 10, 11, kNoMark, kNoMark}));
}

TEST(LostObjects, AMarkIsNeverReplaced) {
  const LostObjects lost = graph({{1}, {0, 2}, {2}});
  std::vector<uint32_t> marks = {1, 2, kNoMark};
  spread(lost, marks);
  EXPECT_EQ(marks, (std::vector<uint32_t>{1, 2, 2}));
}

}  // namespace
}  // namespace slabscope
