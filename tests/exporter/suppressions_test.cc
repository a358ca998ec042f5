// SPDX-License-Identifier: MIT

#include "exporter/analysis/suppressions.h"

#include <gtest/gtest.h>

namespace slabscope {
namespace {

TEST(Suppressions, APatternIsFoundAnywhereUnlessTied) {
  EXPECT_TRUE(matches_pattern("node", "make_node(int)"));
  EXPECT_FALSE(matches_pattern("Node", "make_node(int)"));
  EXPECT_TRUE(matches_pattern("^make", "make_node"));
  EXPECT_FALSE(matches_pattern("^node", "make_node"));
  EXPECT_TRUE(matches_pattern("node$", "make_node"));
  EXPECT_TRUE(matches_pattern("foo$", "foofoo"));
  EXPECT_FALSE(matches_pattern("make$", "make_node"));
  EXPECT_TRUE(matches_pattern("^make_node$", "make_node"));
  EXPECT_FALSE(matches_pattern("^make_node$", "make_nodes"));
  EXPECT_FALSE(matches_pattern("^oo$", "foo"));
}

TEST(Suppressions, AStarStandsForAnything) {
  EXPECT_TRUE(matches_pattern("m*e*d", "make_node"));
  EXPECT_FALSE(matches_pattern("node*make", "make_node"));
  EXPECT_TRUE(matches_pattern("^m*node$", "make_node"));
  EXPECT_FALSE(matches_pattern("^a*node$", "make_node"));
  EXPECT_TRUE(matches_pattern("make*$", "make_node"));
  EXPECT_TRUE(matches_pattern("*", "x"));
  EXPECT_TRUE(matches_pattern("^lib*.so", "libssl.so.3"));
  EXPECT_FALSE(matches_pattern("ab*bc$", "abc")) << "pieces do not overlap";
}

TEST(Suppressions, AnEmptyNameMatchesNothing) {
  EXPECT_FALSE(matches_pattern("*", ""));
  EXPECT_FALSE(matches_pattern("^$", ""));
}

Suppressions parsed(std::string_view text) {
  Suppressions result;
  const auto wrong = parse_suppressions(text, "supp.txt", result);
  EXPECT_FALSE(wrong.has_value()) << wrong->message;
  return result;
}

std::string refused(std::string_view text) {
  Suppressions result;
  const auto wrong = parse_suppressions(text, "supp.txt", result);
  return wrong ? wrong->message : "";
}

TEST(Suppressions, LinesCommentsAndBlanks) {
  const Suppressions read = parsed("# known\n\n  leak:^main$ \r\n\tleak:ssl*\n#leak:no\nleak:a b");
  EXPECT_EQ(read.patterns, (std::vector<std::string>{"^main$", "ssl*", "a b"}));
  EXPECT_TRUE(read.warnings.empty());
}

TEST(Suppressions, LinesOfOtherSanitizersAreWarnedOf) {
  const Suppressions read = parsed("race:foo\nleak:bar\nvptr:*\n");
  EXPECT_EQ(read.patterns, std::vector<std::string>{"bar"});
  ASSERT_EQ(read.warnings.size(), 2U);
  EXPECT_EQ(read.warnings[0], "supp.txt:1: 'race:' is for another sanitizer and was passed over");
  EXPECT_TRUE(read.warnings[1].starts_with("supp.txt:3: "));
}

TEST(Suppressions, AnythingElseIsRefusedByItsPlace) {
  EXPECT_EQ(refused("leak:a\nmalloc\n"),
            "supp.txt:2: 'malloc' is no suppression; write leak:PATTERN");
  EXPECT_TRUE(refused("leaks:a").starts_with("supp.txt:1: "));
  EXPECT_TRUE(refused("leak:").starts_with("supp.txt:1: "));
  EXPECT_TRUE(refused("leak:  ").starts_with("supp.txt:1: "));
  EXPECT_TRUE(refused("\n\n:a").starts_with("supp.txt:3: "));
}

TEST(Suppressions, ModuleFunctionAndFileAreLookedAt) {
  const Suppressions read = parsed("leak:^/lib/libx\nleak:^draw(\nleak:paint.cc$\n");
  SymbolFrame frame;
  EXPECT_FALSE(read.match(frame).has_value());
  frame.file = "/src/paint.cc";
  EXPECT_EQ(read.match(frame), 2U);
  frame.function = "draw(int)";
  EXPECT_EQ(read.match(frame), 1U);
  frame.module = "/lib/libx.so";
  EXPECT_EQ(read.match(frame), 0U);
}

TEST(Suppressions, AFileThatCannotBeReadIsNamed) {
  const Result<Suppressions> read = read_suppressions({"/nowhere/supp.txt"});
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.failure().message,
            "cannot read suppressions from /nowhere/supp.txt: No such file or directory");
  EXPECT_EQ(read_suppressions({"/tmp"}).failure().message,
            "cannot read suppressions from /tmp: Is a directory");
}

}  // namespace
}  // namespace slabscope
