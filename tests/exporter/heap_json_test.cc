// SPDX-License-Identifier: MIT

#include "exporter/output/heap_json.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include <fstream>

#include "tests/exporter/heap_fixture.h"
#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using nlohmann::json;

class HeapJson : public ::testing::Test {
 protected:
  Result<HeapProfile> read(const std::string& text) {
    const std::string path = directory_.file("earlier.json");
    std::ofstream(path, std::ios::binary) << text;
    return read_heap_json(path);
  }
  void expect_refused(const std::string& text, const std::string& why) {
    const Result<HeapProfile> result = read(text);
    ASSERT_FALSE(result.ok()) << text.substr(0, 200);
    EXPECT_NE(result.failure().message.find(why), std::string::npos) << result.failure().message;
    EXPECT_NE(result.failure().message.find("slabscope heap TARGET --json"), std::string::npos);
    EXPECT_EQ(result.failure().message.find('\n'), std::string::npos);
  }

  testing::ScratchDirectory directory_;
};

TEST_F(HeapJson, HasTheDocumentedKeys) {
  const json document = json::parse(heap_json(testing::typical_heap(1000).build(), 0));
  EXPECT_EQ(document["schema"], 1);
  EXPECT_EQ(document["target"]["pid"], 4711);
  EXPECT_EQ(document["estimated"], true);
  EXPECT_EQ(document["samples"], 1003);
  EXPECT_EQ(document["totals"]["exact"]["objects"], 1003);
  ASSERT_EQ(document["stacks"].size(), 3u);
  const json& stack = document["stacks"][0];
  EXPECT_EQ(stack["samples"], 1000);
  EXPECT_GT(stack["bytes_stderr"], 0);
  EXPECT_EQ(stack["caches"], json::array({"malloc-112"}));
  EXPECT_EQ(stack["oldest_seconds"], 70);
  const json& frame = stack["stack"][0];
  EXPECT_EQ(frame["module"], "/srv/app/server");
  EXPECT_EQ(frame["offset"], 0x1234);
  EXPECT_EQ(frame["function"], "");
  EXPECT_EQ(frame["inlined"], false);
}

TEST_F(HeapJson, MinBytesLeavesOutAndSaysSo) {
  const json document = json::parse(heap_json(testing::typical_heap().build(), 1500));
  EXPECT_EQ(document["stacks"].size(), 2u);
  EXPECT_EQ(document["left_out"]["stacks"], 1);
  EXPECT_EQ(document["left_out"]["bytes"], 1024);
}

TEST_F(HeapJson, ComesBackAsItWas) {
  for (const uint32_t interval : {1u, 1000u}) {
    const HeapProfile profile = testing::typical_heap(interval).build();
    const Result<HeapProfile> back = read(heap_json(profile, 0));
    ASSERT_TRUE(back.ok()) << back.failure().message;
    EXPECT_EQ(back->target.pid, profile.target.pid);
    EXPECT_DOUBLE_EQ(back->time_seconds, profile.time_seconds);
    EXPECT_EQ(back->exact_bytes, profile.exact_bytes);
    ASSERT_EQ(back->stacks.size(), profile.stacks.size());
    EXPECT_NEAR(back->stacks[0].bytes.standard_error(), profile.stacks[0].bytes.standard_error(),
                1);
    EXPECT_TRUE(heap_growth(*back, profile).stacks.empty());
  }
}

TEST_F(HeapJson, AComparisonSaysBeforeAndNow) {
  testing::HeapBuilder later = testing::typical_heap();
  later.add_objects(5, 100, later.snapshot.stacks[0].handle);
  const std::string text =
      growth_json(heap_growth(testing::typical_heap().build(), later.build()), 0);
  const json document = json::parse(text);
  ASSERT_EQ(document["stacks"].size(), 1u);
  EXPECT_EQ(document["stacks"][0]["bytes"], 500);
  EXPECT_EQ(document["stacks"][0]["before"]["objects"], 1000);
  EXPECT_EQ(document["stacks"][0]["now"]["objects"], 1005);
  EXPECT_EQ(document["stacks"][0]["certain"], true);
  EXPECT_EQ(document["before"]["pid"], 4711);
  expect_refused(text, "it holds a comparison");
}

TEST_F(HeapJson, RefusesWhatIsNoHeap) {
  expect_refused("", "broken JSON");
  expect_refused("not json", "broken JSON");
  expect_refused("{\"schema\": 1, \"stacks\": [", "broken JSON");
  expect_refused(std::string("{\"schema\": 1, \"stacks\": [{\"bytes\": \"\xff\xfe\"}]}"),
                 "broken JSON");
  expect_refused("[]", "not a JSON object");
  expect_refused("42", "not a JSON object");
  expect_refused("{}", "no \"stacks\"");
  expect_refused("{\"schema\": 1, \"leaks\": []}", "a leak report");
  expect_refused("{\"schema\": 2, \"stacks\": []}", "\"schema\" is not 1");
  expect_refused("{\"stacks\": []}", "\"schema\" is not 1");
}

TEST_F(HeapJson, RefusesAbsurdValues) {
  const auto with = [](const std::string& stack) {
    return "{\"schema\": 1, \"stacks\": [" + stack + "]}";
  };
  expect_refused(with("{\"bytes\": -1}"), "\"bytes\" is no number");
  expect_refused(with("{\"bytes\": 1e300}"), "\"bytes\" is no number");
  expect_refused(with("{\"bytes\": \"many\"}"), "\"bytes\" is no number");
  expect_refused(with("{\"objects\": [1]}"), "\"objects\" is no number");
  expect_refused(with("{\"stack\": {\"a\": 1}}"), "\"stack\" is no list");
  expect_refused(with("{\"stack\": [1]}"), "where an object is expected");
  expect_refused(with("{\"stack\": [{\"function\": 7}]}"), "\"function\" is no text");
  expect_refused(with("{\"stack\": [{\"line\": -5}]}"), "\"line\" is no number");
  std::string frames;
  for (int i = 0; i < 5000; ++i) {
    frames += i == 0 ? "{}" : ",{}";
  }
  expect_refused(with("{\"stack\": [" + frames + "]}"), "\"stack\" is no list");
  expect_refused(with("{\"stack\": [{\"file\": \"" + std::string(100000, 'x') + "\"}]}"),
                 "\"file\" is no text");
}

TEST_F(HeapJson, RefusesDepthWithoutUsingTheStack) {
  expect_refused(std::string(1 << 20, '['), "nested deeper");
  expect_refused("{\"schema\": 1, \"stacks\": [{\"x\": " + std::string(1 << 20, '['),
                 "nested deeper");
}

TEST_F(HeapJson, StacksThatAreNoObjectsAreNotCounted) {
  const Result<HeapProfile> result = read("{\"schema\": 1, \"stacks\": [1, \"x\", [2], null]}");
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->stacks.empty());
}

TEST_F(HeapJson, CleansStrings) {
  const Result<HeapProfile> result = read(
      "{\"schema\": 1, \"target\": {\"comm\": \"a\\u001b[31m\"}, \"stacks\": [{\"bytes\": 5, "
      "\"stack\": [{\"function\": \"f\\n\"}]}]}");
  ASSERT_TRUE(result.ok()) << result.failure().message;
  EXPECT_EQ(result->target.comm.find('\x1b'), std::string::npos);
  EXPECT_EQ(result->frames[0].function.find('\n'), std::string::npos);
}

TEST_F(HeapJson, OpensRegularFilesOnly) {
  EXPECT_NE(read_heap_json(directory_.path()).failure().message.find("not a regular file"),
            std::string::npos);
  const std::string pipe = directory_.file("pipe.json");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_NE(read_heap_json(pipe).failure().message.find("not a regular file"), std::string::npos);
  EXPECT_NE(read_heap_json("/nonexistent.json").failure().message.find("No such file"),
            std::string::npos);
}

}  // namespace
}  // namespace slabscope
