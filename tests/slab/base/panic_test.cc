// SPDX-License-Identifier: MIT

#include "slab/base/panic.h"

#include <gtest/gtest.h>

#include <string>

namespace slabscope {
namespace {

std::string text_of(const Line& line) {
  return {line.data(), line.size()};
}

TEST(Line, JoinsTextAndNumbers) {
  Line line;
  line.text("a ").decimal(0).text(" ").decimal(18446744073709551615U).text(" ").hex(0).text(" ");
  line.hex(0xdeadbeef00);
  EXPECT_EQ(text_of(line), "a 0 18446744073709551615 0x0 0xdeadbeef00");
}

TEST(Line, HexHasNoLeadingZeroesAndAllSixteenDigits) {
  EXPECT_EQ(text_of(Line().hex(UINT64_MAX)), "0xffffffffffffffff");
  EXPECT_EQ(text_of(Line().hex(0x10)), "0x10");
}

TEST(Line, TextStopsAtItsLimitOrItsEnd) {
  EXPECT_EQ(text_of(Line().text("abcdef", 3)), "abc");
  EXPECT_EQ(text_of(Line().text("ab", 3)), "ab");
  EXPECT_EQ(text_of(Line().text("")), "");
}

TEST(Line, IsCutWhenItIsFull) {
  Line line;
  for (int i = 0; i < 1000; ++i)
    line.text("0123456789");
  const size_t full = line.size();
  EXPECT_LT(full, 1000U);
  line.decimal(7).hex(7).text("x");
  EXPECT_EQ(line.size(), full);
  EXPECT_EQ(text_of(line).substr(0, 12), "012345678901");
}

TEST(PanicDeathTest, SaysWhatAndWhereAndAborts) {
  EXPECT_EXIT(panic("double free of", reinterpret_cast<void*>(0x1230)),
              ::testing::KilledBySignal(SIGABRT), "^slabscope: double free of 0x1230\n$");
  EXPECT_EXIT(panic("invalid free of", reinterpret_cast<void*>(0xabc), "why"),
              ::testing::KilledBySignal(SIGABRT), "slabscope: invalid free of 0xabc \\(why\\)\n");
}

TEST(PanicDeathTest, AFailedCheckNamesConditionFileAndLine) {
  const int two = 2;
  SC_CHECK(two == 2);
  EXPECT_DEATH(SC_CHECK(two == 3),
               "slabscope: internal error: two == 3 \\(.*panic_test\\.cc:[0-9]+\\)\n");
}

}  // namespace
}  // namespace slabscope
