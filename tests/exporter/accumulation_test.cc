// SPDX-License-Identifier: MIT
//
// What is called "still live, growing": old, reachable, and more of it than before.

#include "exporter/commands/accumulation.h"

#include <gtest/gtest.h>

#include "tests/exporter/heap_fixture.h"

namespace slabscope {
namespace {

using testing::HeapBuilder;
using testing::kProgram;

// Two looks at a process, 60 seconds apart; the first is at 190 s.
class Accumulation : public ::testing::Test {
 protected:
  // Objects of 100 bytes, of which `before` are there at the first look, and all at the second.
  void keep(uint64_t place, size_t before, uint64_t before_s, size_t more, uint64_t more_s) {
    const uint32_t stack = second_.add_stack({kProgram + place});
    second_.add_objects(before, 100, stack, 7, before_s * kSecondNs);
    first_objects_.insert(first_objects_.end(),
                          second_.snapshot.objects.end() - static_cast<ptrdiff_t>(before),
                          second_.snapshot.objects.end());
    second_.add_objects(more, 100, stack, 7, more_s * kSecondNs);
  }
  // Bytes that accumulated at each place, older than a minute.
  std::vector<std::pair<uint64_t, double>> grown() {
    Snapshot first = second_.snapshot;
    first.objects = first_objects_;
    second_.snapshot.target.read_monotonic_ns = 250 * kSecondNs;
    LeakCheck check;
    check.of_record.assign(second_.snapshot.objects.size(), LeakClass::kReachable);
    for (const size_t record : lost_) {
      check.of_record[record] = LeakClass::kIndirect;
    }
    SymbolizerOptions no_files;
    no_files.open_files = false;
    Symbolizer symbolizer(no_files);
    const HeapGrowth growth = accumulation(first, second_.snapshot, check, 60, symbolizer, {});
    std::vector<std::pair<uint64_t, double>> result;
    for (const GrownStack& stack : growth.stacks) {
      result.emplace_back(growth.frames[stack.now.stack[0]].offset, stack.bytes.value);
    }
    total_ = growth.bytes.value;
    return result;
  }
  using Grown = std::vector<std::pair<uint64_t, double>>;

  HeapBuilder second_;
  std::vector<LiveObject> first_objects_;
  std::vector<size_t> lost_;  // numbers of objects of the second look
  double total_ = 0;
};

TEST_F(Accumulation, IsWhatBecameOldAndWasKept) {
  keep(1, 3, 120, 2, 185);
  EXPECT_EQ(grown(), (Grown{{1, 200}}));
  EXPECT_EQ(total_, 200);
}

TEST_F(Accumulation, WhatIsYoungIsNotInIt) {
  keep(1, 3, 120, 5, 191);  // 59 s old at the second look
  EXPECT_EQ(grown(), Grown());
}

TEST_F(Accumulation, WhatIsAsOldAsAskedForIsInIt) {
  keep(1, 0, 0, 5, 190);
  EXPECT_EQ(grown(), (Grown{{1, 500}}));
}

TEST_F(Accumulation, WhatIsLostIsALeakAndNotInIt) {
  keep(1, 3, 120, 2, 185);
  lost_ = {1, 4};
  EXPECT_EQ(grown(), (Grown{{1, 100}})) << "neither the old nor the new one that is lost counts";
}

TEST_F(Accumulation, WhatBecameLessIsNotListedAndTakesNothingFromTheSum) {
  keep(1, 3, 120, 2, 185);
  keep(2, 4, 120, 0, 0);
  second_.snapshot.objects.resize(second_.snapshot.objects.size() - 3);  // freed meanwhile
  EXPECT_EQ(grown(), (Grown{{1, 200}}));
  EXPECT_EQ(total_, 200);
}

TEST(Duration, TakesSecondsMinutesAndHours) {
  EXPECT_EQ(duration_seconds("90"), 90U);
  EXPECT_EQ(duration_seconds("90s"), 90U);
  EXPECT_EQ(duration_seconds("5m"), 300U);
  EXPECT_EQ(duration_seconds("2h"), 7200U);
  for (const char* good : {"1", "90s", "5m", "999999h"}) {
    EXPECT_EQ(check_duration(good), "") << good;
  }
  for (const char* bad : {"", "0", "m", "5 m", "1.5h", "5d", "1000000s", "5mm"}) {
    EXPECT_NE(check_duration(bad), "") << bad;
  }
}

}  // namespace
}  // namespace slabscope
