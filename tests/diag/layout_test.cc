// SPDX-License-Identifier: MIT
//
// The layout's hash: a reader of one build must refuse the counters of another.

#include "diag/abi/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

namespace slabscope::abi {
namespace {

struct Names {
  Names() { std::copy(std::begin(kCounterNames), std::end(kCounterNames), std::begin(names)); }
  const char* names[std::size(kCounterNames)];
};

TEST(LayoutHash, IsThatOfTheTable) {
  EXPECT_EQ(layout_hash(Names().names), kLayoutHash);
  EXPECT_EQ(std::size(kCounterNames) * sizeof(uint64_t), sizeof(ProcessCounters));
}

TEST(LayoutHash, ChangesWithEachSwapOfNeighbouringRows) {
  for (size_t i = 0; i + 1 < std::size(kCounterNames); ++i) {
    Names swapped;
    std::swap(swapped.names[i], swapped.names[i + 1]);
    EXPECT_NE(layout_hash(swapped.names), kLayoutHash) << kCounterNames[i];
  }
}

TEST(LayoutHash, ChangesWithAName) {
  Names renamed;
  renamed.names[3] = "mapped_metadata_byte";
  EXPECT_NE(layout_hash(renamed.names), kLayoutHash);
}

TEST(LayoutHash, SeesWhereOneNameEnds) {
  EXPECT_NE(layout_hash({"ab", "c"}), layout_hash({"a", "bc"}));
}

}  // namespace
}  // namespace slabscope::abi
