// SPDX-License-Identifier: MIT
//
// The fuzzer's function on inputs from fixed seeds, for compilers without libFuzzer.

#include "tests/fuzz/heap_fuzz.cc"  // NOLINT(bugprone-suspicious-include): the function is there

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

TEST(HeapFuzz, InputsFromFixedSeedsBreakNothing) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    testing::Random random(testing::test_seed(seed));
    std::vector<uint8_t> input(2000);
    for (uint8_t& byte : input)
      byte = static_cast<uint8_t>(random.next());
    testing::in_thread([&input] { LLVMFuzzerTestOneInput(input.data(), input.size()); });
  }
  testing::validate_heap();
}

TEST(HeapFuzz, ShortAndEmptyInputsAreNoOperations) {
  testing::in_thread([] {
    const uint8_t bytes[3] = {0, 0, 0};
    EXPECT_EQ(LLVMFuzzerTestOneInput(nullptr, 0), 0);
    EXPECT_EQ(LLVMFuzzerTestOneInput(bytes, sizeof(bytes)), 0);
  });
}

}  // namespace
}  // namespace slabscope
