// SPDX-License-Identifier: MIT

#include "exporter/output/heap_text.h"

#include <gtest/gtest.h>

#include "tests/exporter/golden.h"
#include "tests/exporter/heap_fixture.h"

namespace slabscope {
namespace {

using testing::expect_golden;

using testing::HeapBuilder;
using testing::kProgram;
using testing::typical_heap;

ReportOptions plain() {
  ReportOptions options;
  options.target_hint = "4711";
  return options;
}

TEST(HeapText, Exact) {
  expect_golden("heap_all.txt", heap_text(typical_heap().build(), plain()));
}

TEST(HeapText, Sampled) {
  expect_golden("heap_sampled.txt", heap_text(typical_heap(524288).build(), plain()));
}

TEST(HeapText, TrackingOff) {
  HeapBuilder builder;
  builder.snapshot.target.track_mode = abi::TrackMode::kOff;
  builder.add_cache(7, "malloc-112", 112, 1000);
  expect_golden("heap_off.txt", heap_text(builder.build(), plain()));
}

TEST(HeapText, TopAndMinBytesSayWhatTheyLeaveOut) {
  ReportOptions options = plain();
  options.top = 1;
  const std::string top = heap_text(typical_heap().build(), options);
  EXPECT_NE(top.find("... and 2 more stacks (3024 bytes in 3 objects). To see them: slabscope heap "
                     "4711 --top 0"),
            std::string::npos)
      << top;
  options.min_bytes = 50000;
  const std::string large = heap_text(typical_heap().build(), options);
  EXPECT_NE(large.find("Left out below --min-bytes 50000: 2 stacks (3024 bytes in 3 objects)."),
            std::string::npos)
      << large;
}

TEST(GrowthText, ExactAndSampled) {
  for (const uint32_t interval : {1u, 524288u}) {
    HeapBuilder before = typical_heap(interval);
    HeapBuilder now = before;
    const uint32_t gone = before.add_stack({kProgram + 0x3000});
    before.add_objects(5, 64, gone);
    now.add_objects(200, 100, now.snapshot.stacks[0].handle, 7, 240 * kSecondNs);
    now.add_objects(1, 70000, now.snapshot.stacks[1].handle, 9, 249 * kSecondNs);
    now.snapshot.target.read_monotonic_ns = 250 * kSecondNs;
    expect_golden(interval == 1 ? "heap_growth.txt" : "heap_growth_sampled.txt",
                  growth_text(heap_growth(before.build(), now.build()), plain()));
  }
}

TEST(GrowthText, NeverSpeaksOfALeakOfWhatGrew) {
  HeapBuilder now = typical_heap();
  now.add_objects(200, 100, now.snapshot.stacks[0].handle);
  const std::string text = growth_text(heap_growth(typical_heap().build(), now.build()), plain());
  EXPECT_NE(text.find("still live, growing"), std::string::npos);
  EXPECT_EQ(text.find(" leak "), std::string::npos);
  EXPECT_EQ(text.find("leaked"), std::string::npos);
}

TEST(GrowthText, NamesAnotherProcess) {
  HeapBuilder before = typical_heap();
  before.snapshot.target.pid = 4000;
  const std::string text =
      growth_text(heap_growth(before.build(), typical_heap().build()), plain());
  EXPECT_NE(text.find("server (pid 4000), another process"), std::string::npos) << text;
  EXPECT_NE(text.find("No stack holds more than before."), std::string::npos) << text;
}

}  // namespace
}  // namespace slabscope
