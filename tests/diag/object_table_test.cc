// SPDX-License-Identifier: MIT

#include "diag/object_table.h"

#include <atomic>
#include <random>
#include <thread>
#include <unordered_map>

#include "slab/base/clock.h"
#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::ScopeFixture;

class ObjectTableTest : public ScopeFixture {
 protected:
  void SetUp() override {
    ScopeFixture::SetUp();
    clock_init();
    open_tables();
    const uintptr_t frames[] = {11, 22, 33};
    stack_ = depot().insert(frames, 3, 1, nullptr);
  }
  uint64_t used() { return file().section(abi::kSectionObjects).used; }

  uint32_t stack_ = 0;
};

TEST_F(ObjectTableTest, ARecordHoldsWhatWasAdded) {
  const uint32_t index = objects().add(0xabc0, 100, stack_, 7, 1);
  ASSERT_NE(index, 0u);
  const auto record = read_at<abi::ObjectRecord>(
      file().path(), abi::kObjectsOffset + index * sizeof(abi::ObjectRecord));
  EXPECT_EQ(record.address, 0xabc0u);
  EXPECT_EQ(record.size, 100u);
  EXPECT_EQ(record.stack, stack_);
  EXPECT_EQ(record.cache, 7u);
  EXPECT_EQ(record.interval, 1u);
  EXPECT_GT(record.when_monotonic_ns, 0u);
  EXPECT_LT(index, used());
  EXPECT_EQ(depot().find(stack_)->live_bytes, 100u);
  objects().resize(index, 250);
  EXPECT_EQ(objects().find(index)->size, 250u);
  EXPECT_EQ(depot().find(stack_)->live_bytes, 250u);
  objects().remove(index);
  EXPECT_EQ(objects().find(index), nullptr);
  EXPECT_EQ(depot().find(stack_)->live_bytes, 0u);
}

TEST_F(ObjectTableTest, NonsenseIndexesAreIgnored) {
  const uint32_t index = objects().add(0x10, 1, stack_, 1, 1);
  objects().remove(0);
  objects().remove(0xffffffff);
  objects().remove(index);
  objects().remove(index);  // the second one finds nothing
  objects().resize(index, 5);
  const uint32_t a = objects().add(0x20, 1, stack_, 1, 1);
  const uint32_t b = objects().add(0x30, 1, stack_, 1, 1);
  EXPECT_NE(a, b);
  EXPECT_EQ(objects().add(0, 1, stack_, 1, 1), 0u);
}

TEST_F(ObjectTableTest, AModelOfRandomAddsAndRemovesAgrees) {
  std::mt19937 random(42);
  std::unordered_map<uint32_t, uintptr_t> live;
  std::vector<uint32_t> order;
  for (int step = 0; step < 20000; ++step) {
    if (order.empty() || random() % 5 < 3) {
      const uintptr_t address = 16 + step;
      const uint32_t index = objects().add(address, 8, stack_, 1, 1);
      ASSERT_NE(index, 0u);
      ASSERT_TRUE(live.emplace(index, address).second) << "index handed out twice";
      order.push_back(index);
    } else {
      const size_t victim = random() % order.size();
      ASSERT_EQ(objects().find(order[victim])->address, live[order[victim]]);
      objects().remove(order[victim]);
      live.erase(order[victim]);
      order[victim] = order.back();
      order.pop_back();
    }
  }
  EXPECT_EQ(depot().find(stack_)->live_objects, live.size());
}

TEST_F(ObjectTableTest, WhatOneThreadFreesAnotherReuses) {
  // A producer and a consumer: the table must not grow with each round.
  std::vector<uint32_t> indexes(500);
  for (int round = 0; round < 30; ++round) {
    for (uint32_t& index : indexes)
      index = objects().add(0x40, 8, stack_, 1, 1);
    std::thread([&] {
      for (const uint32_t index : indexes)
        objects().remove(index);
    }).join();
  }
  EXPECT_LT(used(), 500u + 32u * 18u);
}

TEST_F(ObjectTableTest, ManyThreadsNeverShareAnIndex) {
  constexpr unsigned kThreads = 4;
  constexpr int kSteps = 8000;
  std::vector<std::atomic<uint8_t>> owned(1 << 16);
  std::atomic<bool> clash{false};
  std::atomic<uint64_t> remaining{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      std::vector<uint32_t> mine;
      for (int step = 0; step < kSteps; ++step) {
        if (mine.empty() || random() % 2 == 0) {
          const uint32_t index = objects().add(0x100 + t, 8, stack_, 1, 1);
          if (index == 0 || index >= owned.size() || owned[index].exchange(1) != 0)
            clash = true;
          mine.push_back(index);
        } else {
          owned[mine.back()] = 0;
          objects().remove(mine.back());
          mine.pop_back();
        }
      }
      remaining += mine.size();
    });
  }
  for (auto& thread : threads)
    thread.join();
  EXPECT_FALSE(clash);
  EXPECT_EQ(depot().find(stack_)->live_objects, remaining.load());
}

TEST_F(ObjectTableTest, HostileRecordsSpoilNumbersOnly) {
  const uint32_t index = objects().add(0x10, 64, stack_, 1, 1);
  abi::ObjectRecord& record = file().objects()[index];
  record.stack = 0xfffffff0;
  record.size = ~uint64_t{0};
  record.interval = 0xffffffff;
  objects().resize(index, 1);
  objects().remove(index);
  const uint32_t second = objects().add(0x10, 64, stack_, 1, 1);
  file().objects()[second].address = 0;  // the index is lost, nothing else
  objects().remove(second);
  const uint32_t third = objects().add(0x20, 64, stack_, 1, 1);
  EXPECT_NE(third, second);
}

TEST_F(ObjectTableTest, AForgottenTableStartsAgain) {
  const uint32_t old = objects().add(0x10, 64, stack_, 1, 1);
  objects().forget();
  depot().forget_live();
  EXPECT_EQ(objects().find(old), nullptr);
  objects().remove(old);
  EXPECT_EQ(depot().find(stack_)->live_objects, 0u);
  const uint32_t fresh = objects().add(0x20, 32, stack_, 1, 1);
  EXPECT_GT(fresh, old);
  EXPECT_EQ(depot().find(stack_)->live_bytes, 32u);
}

}  // namespace
}  // namespace slabscope::diag
