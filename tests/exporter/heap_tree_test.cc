// SPDX-License-Identifier: MIT

#include "exporter/output/heap_tree.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/exporter/heap_fixture.h"

namespace slabscope {
namespace {

using nlohmann::json;

HeapProfile profile_with(const std::vector<SymbolFrame>& frames,
                         const std::vector<std::pair<std::vector<uint32_t>, double>>& stacks) {
  HeapProfile profile;
  profile.frames = frames;
  profile.target.comm = "server";
  profile.target.exe = "/bin/x";
  for (const auto& [ids, bytes] : stacks) {
    HeapStack& stack = profile.stacks.emplace_back();
    stack.stack = ids;
    stack.bytes.value = bytes;
    stack.objects.value = 1;
    stack.samples = 1;
  }
  return profile;
}

SymbolFrame frame(const std::string& function, uint32_t line = 1) {
  return {function, "a.c", line, "/bin/x", 0x100, 0, "", false};
}

json data_of(const std::string& page) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const size_t at = page.find(begin) + begin.size();
  return json::parse(page.substr(at, page.find("</script>", at) - at));
}

TEST(Collapsed, IsAStackALineOutermostFirst) {
  const HeapProfile profile = profile_with({frame("leaf"), frame("main"), frame("other")},
                                           {{{0, 1}, 100}, {{2, 1}, 7}, {{}, 3}});
  EXPECT_EQ(heap_collapsed(profile), "(stack not recorded) 3\nmain;leaf 100\nmain;other 7\n");
}

TEST(Collapsed, AddsUpStacksThatDifferInLinesOnly) {
  const HeapProfile profile =
      profile_with({frame("leaf", 1), frame("leaf", 2)}, {{{0}, 100}, {{1}, 50}});
  EXPECT_EQ(heap_collapsed(profile), "leaf 150\n");
}

TEST(Collapsed, NoNameBreaksTheFormat) {
  const HeapProfile profile =
      profile_with({frame("operator;"), frame("f(int, char) "), frame("a\nb"), frame("  ")},
                   {{{0, 1}, 1}, {{2, 3}, 2}});
  const std::string text = heap_collapsed(profile);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_NE(text.find("f(int, char);operator: 1\n"), std::string::npos) << text;
  EXPECT_EQ(text.rfind("?;a", 0), 0u) << text;
}

TEST(Collapsed, UnknownFunctionsAreModuleAndOffset) {
  EXPECT_EQ(frame_name({"", "", 0, "/usr/lib/libx.so", 0x1f0, 0, "", false}), "libx.so+0x1f0");
  EXPECT_EQ(frame_name({"", "", 0, "", 0x7f00, 0, "", false}), "0x7f00");
}

TEST(HeapPage, HoldsTheTree) {
  const HeapProfile profile = profile_with({frame("leaf"), frame("main"), frame("other")},
                                           {{{0, 1}, 100}, {{2, 1}, 7}, {{}, 3}});
  const std::string page = heap_page(profile);
  const json data = data_of(page);
  EXPECT_EQ(data["estimated"], false);
  const json& root = data["root"];
  EXPECT_EQ(root["v"], 110);
  EXPECT_EQ(root["o"], 3);
  ASSERT_EQ(root["c"].size(), 2u);
  EXPECT_EQ(root["c"][1]["n"], "main");
  EXPECT_EQ(root["c"][1]["p"], "a.c:1");
  EXPECT_EQ(root["c"][1]["k"], 0);
  EXPECT_EQ(root["c"][1]["v"], 107);
  EXPECT_EQ(root["c"][1]["c"].size(), 2u);
  EXPECT_EQ(page.find("{{"), std::string::npos) << "every place is filled in";
}

TEST(HeapPage, NeedsNoNetwork) {
  const std::string page = heap_page(profile_with({frame("main")}, {{{0}, 1}}));
  for (const char* reference : {"src=", "href=", "@import", "url("}) {
    EXPECT_EQ(page.find(reference), std::string::npos) << reference;
  }
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
}

TEST(HeapPage, NoNameEndsTheScript) {
  HeapProfile profile = profile_with({frame("f</script><script>alert(1)//{{SCRIPT}}")}, {{{0}, 1}});
  profile.target.comm = "<b>&\"";
  profile.target.exe = "/<i>";
  const std::string page = heap_page(profile);
  EXPECT_EQ(page.find("</script><script>alert"), std::string::npos);
  EXPECT_EQ(page.find("<b>&"), std::string::npos);
  EXPECT_EQ(page.find("/<i>"), std::string::npos);
  EXPECT_EQ(data_of(page)["root"]["c"][0]["n"], "f</script><script>alert(1)//{{SCRIPT}}");
}

TEST(HeapPage, SumsUpWhatIsTooSmallToSee) {
  std::vector<SymbolFrame> frames = {frame("big")};
  std::vector<std::pair<std::vector<uint32_t>, double>> stacks = {{{0}, 1e9}};
  for (uint32_t i = 1; i <= 30000; ++i) {
    frames.push_back(frame("small" + std::to_string(i)));
    stacks.push_back({{i}, 2});
  }
  const json root = data_of(heap_page(profile_with(frames, stacks)))["root"];
  ASSERT_EQ(root["c"].size(), 2u);
  EXPECT_EQ(root["c"][1]["n"], "(30000 smaller)");
  EXPECT_EQ(root["c"][1]["v"], 60000);
  EXPECT_EQ(root["v"], 1000060000);
}

TEST(HeapPage, SaysWhenItIsAnEstimateAndWhenThereIsNothing) {
  EXPECT_NE(heap_page(testing::typical_heap(1000).build()).find("<b>An estimate.</b>"),
            std::string::npos);
  EXPECT_EQ(heap_page(testing::typical_heap().build()).find("An estimate."), std::string::npos);
  EXPECT_NE(heap_page(HeapProfile()).find("there is no graph"), std::string::npos);
}

}  // namespace
}  // namespace slabscope
