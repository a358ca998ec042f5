// SPDX-License-Identifier: MIT

#include "slab/base/due.h"

#include <gtest/gtest.h>

namespace slabscope {
namespace {

TEST(Due, IsDueFromTheDelayOn) {
  EXPECT_FALSE(is_due(1499, 1000, 500));
  EXPECT_TRUE(is_due(1500, 1000, 500));
  EXPECT_TRUE(is_due(1000, 1000, 0));
}

TEST(Due, ATimeAheadOfTheClockIsNotDue) {
  EXPECT_FALSE(is_due(1000, 1001, 500));
  EXPECT_FALSE(is_due(UINT32_MAX, 5, 500));
}

TEST(Due, HoldsWhenTheClockWraps) {
  EXPECT_FALSE(is_due(100, UINT32_MAX - 10, 500));
  EXPECT_TRUE(is_due(489, UINT32_MAX - 10, 500));
}

TEST(Due, ADelayTooLongForTheClockIsNotTakenForNone) {
  EXPECT_FALSE(is_due(1000, 1000, UINT32_MAX));
  EXPECT_FALSE(is_due(1000, 500, uint32_t{1} << 31));
}

}  // namespace
}  // namespace slabscope
