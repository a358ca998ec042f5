// SPDX-License-Identifier: MIT

#include "slab/base/bits.h"

#include <gtest/gtest.h>

#include "slab/cache/size_class.h"

namespace slabscope {
namespace {

TEST(Bits, AlignUpAndDownReachTheNearestMultiples) {
  for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
    for (size_t value = 0; value < 3 * 4096; value += 7) {
      const size_t up = align_up(value, alignment);
      const size_t down = align_down(value, alignment);
      ASSERT_EQ(up % alignment, 0U);
      ASSERT_EQ(down % alignment, 0U);
      ASSERT_GE(up, value);
      ASSERT_LT(up - value, alignment);
      ASSERT_LE(down, value);
      ASSERT_LT(value - down, alignment);
    }
  }
}

TEST(Bits, AlignUpWrapsToZeroAtTheTop) {
  EXPECT_EQ(align_up(SIZE_MAX, 4096), 0U);
  EXPECT_EQ(align_up(SIZE_MAX - 4095, 4096), SIZE_MAX - 4095);
}

TEST(Bits, PowersOfTwoAreTheNumbersWithOneBit) {
  EXPECT_FALSE(is_power_of_two(0));
  for (size_t value = 1; value < 5000; ++value) {
    EXPECT_EQ(is_power_of_two(value), __builtin_popcountll(value) == 1) << value;
  }
  EXPECT_TRUE(is_power_of_two(size_t{1} << 63));
}

TEST(Bits, Log2FloorBracketsItsArgument) {
  for (unsigned shift = 0; shift < 64; ++shift) {
    const uint64_t power = uint64_t{1} << shift;
    EXPECT_EQ(log2_floor(power), shift);
    if (shift > 0) {
      EXPECT_EQ(log2_floor(power - 1), shift - 1);
    }
    if (shift > 1) {
      EXPECT_EQ(log2_floor(power + 1), shift);
    }
  }
}

TEST(Divider, IsExactForEveryOffsetInEverySizeClass) {
  for (unsigned id = 1; id < Config::kOwnId; ++id) {
    const auto size = static_cast<uint32_t>(SizeClass::size_of(id));
    const Divider divider(size);
    uint32_t quotient = 0;
    uint32_t remainder = 0;
    for (uint32_t offset = 0; offset < 1U << 20; ++offset) {
      if (divider.divide(offset) != quotient) {
        FAIL() << offset << " / " << size << " gave " << divider.divide(offset);
      }
      if (++remainder == size) {
        remainder = 0;
        ++quotient;
      }
    }
  }
}

TEST(Divider, IsExactAroundMultiplesOfAnyDivisor) {
  for (uint32_t divisor = 16; divisor < 1U << 20; divisor += divisor < 4096 ? 1 : 997) {
    const Divider divider(divisor);
    for (uint32_t multiple = divisor; multiple < 1U << 20; multiple += divisor * 13) {
      ASSERT_EQ(divider.divide(multiple - 1), multiple / divisor - 1) << divisor;
      ASSERT_EQ(divider.divide(multiple), multiple / divisor) << divisor;
    }
    ASSERT_EQ(divider.divide((1U << 20) - 1), ((1U << 20) - 1) / divisor) << divisor;
  }
}

}  // namespace
}  // namespace slabscope
