// SPDX-License-Identifier: MIT

#include "exporter/base/text.h"

#include <gtest/gtest.h>

namespace slabscope {
namespace {

constexpr const char* kBad = "\xEF\xBF\xBD";

TEST(Text, PrintableKeepsWhatIsValid) {
  EXPECT_EQ(printable_utf8("plain"), "plain");
  EXPECT_EQ(printable_utf8("Größe 東京 😀"), "Größe 東京 😀");
  EXPECT_EQ(printable_utf8(""), "");
}

TEST(Text, PrintableReplacesBrokenSequences) {
  EXPECT_EQ(printable_utf8("a\xff"), std::string("a") + kBad);
  EXPECT_EQ(printable_utf8("\xc3"), kBad);                          // cut off
  EXPECT_EQ(printable_utf8("\xc0\xaf"), std::string(kBad) + kBad);  // overlong
  EXPECT_EQ(printable_utf8("\xe0\x80\xaf"), std::string(kBad) + kBad + kBad);
  EXPECT_EQ(printable_utf8("\xed\xa0\x80"), std::string(kBad) + kBad + kBad);  // surrogate
  EXPECT_EQ(printable_utf8("\xf4\x90\x80\x80").substr(0, 3), kBad);            // beyond U+10FFFF
}

TEST(Text, PrintableReplacesWhatMovesTheCursorOrTheText) {
  EXPECT_EQ(printable_utf8("a\033[31m"), std::string("a") + kBad + "[31m");
  EXPECT_EQ(printable_utf8("a\nb"), std::string("a") + kBad + "b");
  EXPECT_EQ(printable_utf8("\xc2\x9b"), kBad);  // CSI as one character
  // NOLINTNEXTLINE(misc-misleading-bidirectional): what is tested.
  EXPECT_EQ(printable_utf8("\xe2\x80\xae"), kBad);  // right-to-left override
}

TEST(Text, PrintableTwiceIsPrintableOnce) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) {
    all += static_cast<char>(byte);
  }
  EXPECT_EQ(printable_utf8(printable_utf8(all)), printable_utf8(all));
}

TEST(Text, HumanBytesHasTwoDigitsAndAUnit) {
  EXPECT_EQ(human_bytes(0), "0");
  EXPECT_EQ(human_bytes(1023), "1023");
  EXPECT_EQ(human_bytes(1024), "1.0K");
  EXPECT_EQ(human_bytes(1536), "1.5K");
  EXPECT_EQ(human_bytes(10239), "9.9K");
  EXPECT_EQ(human_bytes(10240), "10K");
  EXPECT_EQ(human_bytes(uint64_t{5} << 30), "5.0G");
  EXPECT_EQ(human_bytes(UINT64_MAX), "15E");
}

TEST(Text, HumanDurationHasTheTwoLargestUnits) {
  EXPECT_EQ(human_duration(0), "0s");
  EXPECT_EQ(human_duration(90), "1m30s");
  EXPECT_EQ(human_duration(3600 * 25), "1d1h");
}

TEST(Text, HtmlEscapeLeavesNoMarkup) {
  EXPECT_EQ(html_escape("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
}

TEST(Text, WidthCountsCharactersNotBytes) {
  EXPECT_EQ(display_width("Größe"), 5u);
}

}  // namespace
}  // namespace slabscope
