// SPDX-License-Identifier: MIT

#include "diag/stack_depot.h"

#include <array>
#include <random>
#include <set>
#include <thread>

#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::ScopeFixture;

class StackDepotTest : public ScopeFixture {
 protected:
  void SetUp() override {
    ScopeFixture::SetUp();
    open_tables();
  }
  // A different stack for each number, 1 to 64 frames long.
  static std::vector<uintptr_t> stack(uint64_t number) {
    std::mt19937_64 random(number);
    std::vector<uintptr_t> frames(1 + number % abi::kMaxFrames);
    for (uintptr_t& frame : frames)
      frame = random() | 1;
    return frames;
  }
  uint32_t insert(uint64_t number, bool* is_new = nullptr) {
    const auto frames = stack(number);
    return depot().insert(frames.data(), static_cast<unsigned>(frames.size()), 1, is_new);
  }
  uint32_t* buckets() { return reinterpret_cast<uint32_t*>(file().depot()); }
};

TEST_F(StackDepotTest, OneStackHasOneHandle) {
  bool is_new = false;
  const uint32_t first = insert(5, &is_new);
  EXPECT_NE(first, 0u);
  EXPECT_TRUE(is_new);
  EXPECT_EQ(insert(5, &is_new), first);
  EXPECT_FALSE(is_new);
  EXPECT_NE(insert(6), first);
  const abi::StackRecord* record = depot().find(first);
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(record->frame_count, stack(5).size());
  EXPECT_EQ(file().counters().stacks_stored, 2u);
  EXPECT_EQ(depot().insert(nullptr, 0, 1, nullptr), 0u);
}

TEST_F(StackDepotTest, AReaderFindsEveryStackThroughTheBuckets) {
  for (uint64_t number = 0; number < 3000; ++number)
    ASSERT_NE(insert(number), 0u);
  const uint64_t used = file().section(abi::kSectionDepot).used;
  std::set<uint32_t> found;
  for (uint32_t bucket = 0; bucket < abi::kDepotBuckets; ++bucket) {
    uint32_t handle = read_at<uint32_t>(file().path(), abi::kDepotOffset + bucket * sizeof handle);
    while (handle != 0) {
      ASSERT_LT(handle, used);
      ASSERT_TRUE(found.insert(handle).second);
      handle =
          read_at<abi::StackRecord>(file().path(), abi::kDepotOffset + uint64_t{handle} * 8).next;
    }
  }
  EXPECT_EQ(found.size(), 3000u);
  size_t visited = 0;
  depot().for_each([&](uint32_t, const abi::StackRecord*) { ++visited; });
  EXPECT_EQ(visited, 3000u);
}

TEST_F(StackDepotTest, LiveNumbersComeBackToZero) {
  const uint32_t handle = insert(1);
  depot().add(handle, 100, 1);
  depot().add(handle, 28, 524288);
  const abi::StackRecord* record = depot().find(handle);
  EXPECT_EQ(record->live_objects, 2u);
  EXPECT_EQ(record->live_bytes, 128u);
  EXPECT_NEAR(static_cast<double>(record->estimated_live_bytes), 524288 + 100 + 14, 1);
  EXPECT_NEAR(static_cast<double>(record->estimated_live_milliobjects), 1000 * (1 + 18725.07), 1);
  depot().resize(handle, 100, 150, 1);
  EXPECT_EQ(record->live_bytes, 178u);
  EXPECT_NEAR(static_cast<double>(record->estimated_total_bytes), 524288 + 150 + 14, 1);
  depot().resize(handle, 150, 120, 1);  // gives nothing back of what was allocated
  EXPECT_NEAR(static_cast<double>(record->estimated_total_bytes), 524288 + 150 + 14, 1);
  depot().remove(handle, 120, 1);
  depot().remove(handle, 28, 524288);
  EXPECT_EQ(record->live_objects, 0u);
  EXPECT_EQ(record->live_bytes, 0u);
  EXPECT_EQ(record->estimated_live_bytes, 0u);
  EXPECT_EQ(record->estimated_live_milliobjects, 0u);
  EXPECT_NEAR(static_cast<double>(record->estimated_total_milliobjects), 1000 * (1 + 18725.07), 1);
  depot().add(0, 1, 1);  // "no stack" is not an error
  depot().add(0xffffffff, 1, 1);
}

TEST_F(StackDepotTest, ThreadsThatInsertTheSameStacksAgree) {
  constexpr unsigned kThreads = 4;
  constexpr uint64_t kStacks = 400;
  std::array<std::vector<uint32_t>, kThreads> handles;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t number = 0; number < kStacks; ++number) {
        handles[t].push_back(insert(number));
        depot().add(handles[t].back(), 10, 1);
      }
    });
  }
  for (auto& thread : threads)
    thread.join();
  for (unsigned t = 1; t < kThreads; ++t)
    EXPECT_EQ(handles[t], handles[0]);
  EXPECT_EQ(file().counters().stacks_stored, kStacks);
  for (const uint32_t handle : handles[0])
    EXPECT_EQ(depot().find(handle)->live_objects, kThreads);
}

TEST_F(StackDepotTest, HostileChainsNeitherCrashNorHang) {
  const uint32_t handle = insert(7);
  const auto frames = stack(7);
  abi::StackRecord* record = depot().find(handle);
  const uint32_t bucket = record->hash & (abi::kDepotBuckets - 1);
  const std::array<uint32_t, 5> heads = {0xffffffff, 1, handle + 1, handle, 0x00800000};
  for (const uint32_t head : heads) {
    for (const uint32_t next : heads) {
      buckets()[bucket] = head;
      record->next = next;  // a loop, among others
      record->hash = ~record->hash;
      static_cast<void>(insert(7));
    }
  }
  record->frame_count = 0xffffffff;
  EXPECT_EQ(depot().find(handle), nullptr);
  depot().add(handle, 1, 1);
  buckets()[bucket] = handle;
  EXPECT_NE(insert(7), 0u);
  record->frame_count = 0;
  depot().for_each([](uint32_t, const abi::StackRecord*) {});
  std::mt19937 random(1);
  for (uint32_t i = 0; i < abi::kDepotBuckets; i += 64) {
    if (file().ensure(&buckets()[i], 4))
      buckets()[i] = static_cast<uint32_t>(random());
  }
  for (uint64_t number = 0; number < 2000; ++number)
    static_cast<void>(insert(number));
}

TEST_F(StackDepotTest, AFullDepotDropsAndCounts) {
  // 1 MiB of depot, 256 KiB of it buckets: some 1300 of these stacks.
  const int code = testing::in_child([&] {
    give_back();
    if (!testing::limit_address_space())
      return 77;
    auto scope = std::make_unique<ScopeFile>();
    if (!scope->open(options_))
      return 1;
    StackDepot small;
    small.init(*scope);
    unsigned stored = 0;
    for (uint64_t number = 0; number < 5000; ++number) {
      std::array<uintptr_t, 64> frames{};
      frames.fill(number + 1);
      if (small.insert(frames.data(), 64, 1, nullptr) != 0)
        ++stored;
    }
    if (stored < 1000 || stored > 1500)
      return 2;
    if (scope->counters().dropped_stacks != 5000 - stored)
      return 3;
    std::array<uintptr_t, 64> again{};
    again.fill(1);
    return small.insert(again.data(), 64, 1, nullptr) != 0 ? 0 : 4;
  });
  if (code == 77)
    GTEST_SKIP() << "needs a limit on address space";
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace slabscope::diag
