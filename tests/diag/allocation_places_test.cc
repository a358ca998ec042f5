// SPDX-License-Identifier: MIT
//
// alloc_calls: objects of one cache and its children, by the place that allocated them.

#include "diag/allocation_places.h"

#include <array>
#include <regex>
#include <string>

#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::ScopeFixture;

class AllocationPlaces : public ScopeFixture {
 protected:
  static constexpr uint16_t kCache = 200;
  static constexpr uint16_t kChild = 201;
  static constexpr uint16_t kOther = 202;

  void SetUp() override {
    ScopeFixture::SetUp();
    open_tables();
    modules().add_loaded();
    for (const uint16_t cache : {kCache, kChild, kOther})
      ASSERT_TRUE(file().ensure(&file().caches()[cache], sizeof(abi::CacheRecord)));
    file().caches()[kChild].parent = kCache;
    file().caches()[kChild].group = 1;
  }
  uint32_t stack(uintptr_t inner, uintptr_t outer) {
    const std::array<uintptr_t, 2> frames{inner, outer};
    return depot().insert(frames.data(), frames.size(), 1, nullptr);
  }
  uint32_t add(uint16_t cache, uint32_t stack, uint64_t age_ms) {
    address_ += 64;
    const uint32_t index = objects().add(address_, 64, stack, cache, 1);
    const_cast<abi::ObjectRecord*>(objects().find(index))->when_monotonic_ns -= age_ms * 1'000'000;
    return index;
  }
  std::string places(uint32_t cache) {
    std::string text(4096, '?');
    text.resize(
        write_allocation_places(file(), depot(), objects(), cache, text.data(), text.size()));
    return text;
  }
  // Ages are counted on from what the test set.
  static void expect_lines(const std::string& text, const std::string& pattern) {
    EXPECT_TRUE(std::regex_match(text, std::regex(pattern))) << text;
  }

  uintptr_t address_ = 0x10000;
};

TEST_F(AllocationPlaces, PlacesAreMergedAndSortedByTheirObjects) {
  const auto here = reinterpret_cast<uintptr_t>(&write_allocation_places) + 4;
  add(kCache, stack(here, 0x1111), 50'000);
  for (int i = 0; i < 3; ++i)
    add(kCache, stack(0x4242, 0x1111), 10'000);
  for (int i = 0; i < 9; ++i)
    add(i % 2 == 0 ? kCache : kChild, stack(here + 1, 0x1000 + static_cast<uintptr_t>(i)),
        static_cast<uint64_t>(i) * 10'000);
  add(kCache, 0, 0);
  add(kOther, stack(0x5555, 0x1111), 0);
  expect_lines(places(kCache),
               "      9 diag_tests\\+0x[0-9a-f]+ age=\\d{1,3}/40\\d{3}/80\\d{3} pid=\\d+\n"
               "      3 0x4242 age=10\\d{3}(/10\\d{3}/10\\d{3})? pid=\\d+\n"
               "      1 <not-available> age=\\d{1,3} pid=\\d+\n"
               "      1 diag_tests\\+0x[0-9a-f]+ age=50\\d{3} pid=\\d+\n");
  expect_lines(places(kOther), "      1 0x5555 age=\\d+ pid=" + std::to_string(getpid()) + "\n");
  EXPECT_EQ(places(203), "");
}

TEST_F(AllocationPlaces, WhatDoesNotFitIsCutAndItsLengthTold) {
  for (uintptr_t i = 1; i <= 300; ++i)
    add(kCache, stack(0x1000 + i, 0x1111), 50'000);  // no age gets a digit more while it runs
  const std::string whole = places(kCache);
  EXPECT_GT(whole.size(), 4096U);
  std::array<char, 20> text{};
  EXPECT_EQ(write_allocation_places(file(), depot(), objects(), kCache, text.data(), text.size()),
            whole.size());
  EXPECT_EQ(std::string(text.data()), whole.substr(0, text.size() - 1));
  EXPECT_EQ(write_allocation_places(file(), depot(), objects(), kCache, nullptr, 0), whole.size());
}

TEST_F(AllocationPlaces, OfOneObject) {
  std::array<char, 64> text{};
  const auto place = [&](uint32_t index) {
    const size_t length =
        write_allocation_place(file(), depot(), objects(), index, text.data(), text.size());
    EXPECT_EQ(length, std::string(text.data()).size());
    return std::string(text.data());
  };
  EXPECT_EQ(place(add(kCache, stack(0x4242, 0x1111), 0)), "0x4242");
  EXPECT_EQ(place(add(kCache, 0, 0)), "");
  EXPECT_EQ(place(4000), "");
}

}  // namespace
}  // namespace slabscope::diag
