// SPDX-License-Identifier: MIT
//
// PeakRecorder and what stacks keep of a peak: as a reader finds them, also if the writer is killed
// at any step.

#include "diag/peak_recorder.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

class PeakTest : public testing::ScopeFixture {
 protected:
  struct Head {
    uint64_t epoch, monotonic_ns, realtime_ns, objects, bytes;
    uint32_t cache_count, reserved0;
    uint64_t reserved[2];
    abi::PeakCache first;
  };

  void SetUp() override {
    ScopeFixture::SetUp();
    open_tables();
    peak_.init(file(), depot());
  }
  bool record(uint64_t bytes) {
    if (!peak_.begin())
      return false;
    peak_.add({.cache = 7, .generation = 2, .objects = bytes / 100, .bytes = bytes});
    return peak_.finish();
  }
  uint64_t epoch() { return read_at<uint64_t>(file().path(), offsetof(abi::Header, peak_epoch)); }
  Head head() {
    return read_at<Head>(file().path(), abi::kPeaksOffset + epoch() % 2 * abi::kPeakRecordBytes);
  }
  uint32_t stack(uintptr_t frame) { return depot().insert(&frame, 1, 1, nullptr); }
  // As readers do.
  uint64_t bytes_at_peak(uint32_t handle) {
    const auto record =
        read_at<abi::StackRecord>(file().path(), abi::kDepotOffset + uint64_t{handle} * 8);
    return record.peak_epoch == epoch() ? record.peak_estimated_bytes : record.estimated_live_bytes;
  }

  PeakRecorder peak_;
};

TEST_F(PeakTest, KeepsTheHighest) {
  EXPECT_EQ(epoch(), 0U);
  EXPECT_TRUE(record(1000));
  EXPECT_EQ(epoch(), 1U);
  EXPECT_EQ(head().bytes, 1000U);
  EXPECT_FALSE(record(900));
  EXPECT_EQ(head().bytes, 1000U);
  EXPECT_TRUE(record(2000));
  EXPECT_EQ(epoch(), 2U);
  const Head seen = head();
  EXPECT_EQ(seen.epoch, 2U);
  EXPECT_EQ(seen.bytes, 2000U);
  EXPECT_EQ(seen.objects, 20U);
  EXPECT_EQ(seen.cache_count, 1U);
  EXPECT_EQ(seen.first.cache, 7U);
  EXPECT_EQ(seen.first.generation, 2U);
  EXPECT_GE(seen.monotonic_ns, file().header()->start_monotonic_ns);
}

TEST_F(PeakTest, TheLastOneIsWholeWhileTheNextIsWritten) {
  EXPECT_TRUE(record(1000));
  ASSERT_TRUE(peak_.begin());
  peak_.add({.cache = 8, .generation = 0, .objects = 1, .bytes = 5000});
  // Killed here, a reader finds:
  EXPECT_EQ(head().epoch, 1U);
  EXPECT_EQ(head().bytes, 1000U);
  EXPECT_EQ(head().first.cache, 7U);
  EXPECT_FALSE(peak_.begin());  // nobody waits
  EXPECT_TRUE(peak_.finish());
  EXPECT_EQ(head().bytes, 5000U);
}

TEST_F(PeakTest, StacksKeepWhatTheyHeldThen) {
  const uint32_t first = stack(0x1000);
  const uint32_t second = stack(0x2000);
  depot().add(first, 100, 1);
  depot().add(second, 300, 1);
  EXPECT_TRUE(record(400));
  EXPECT_EQ(bytes_at_peak(first), 100U);  // nothing has changed since
  depot().remove(second, 300, 1);
  depot().add(first, 50, 1);
  depot().add(first, 50, 1);
  const uint32_t later = stack(0x3000);
  depot().add(later, 7, 1);
  EXPECT_EQ(bytes_at_peak(first), 100U);
  EXPECT_EQ(bytes_at_peak(second), 300U);
  EXPECT_EQ(bytes_at_peak(later), 0U);
  EXPECT_TRUE(record(500));
  EXPECT_EQ(bytes_at_peak(first), 200U);
  EXPECT_EQ(bytes_at_peak(second), 0U);
  depot().resize(first, 50, 80, 1);
  EXPECT_EQ(bytes_at_peak(first), 200U);
}

TEST_F(PeakTest, OneThreadKeepsForAll) {
  constexpr int kThreads = 4;
  constexpr uint64_t kPeaks = 200;
  std::vector<uint32_t> stacks;
  for (uintptr_t frame = 0x1000; frame < 0x1010; ++frame) {
    stacks.push_back(stack(frame));
    depot().add(stacks.back(), 1000, 1);
  }
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        for (const uint32_t handle : stacks) {
          depot().add(handle, 10, 1);
          depot().remove(handle, 10, 1);
        }
      }
    });
  }
  for (uint64_t peak = 1; peak <= kPeaks; ++peak) {
    ASSERT_TRUE(record(peak * 1000));
    for (const uint32_t handle : stacks) {
      const uint64_t bytes = bytes_at_peak(handle);
      ASSERT_GE(bytes, 1000U);
      ASSERT_LE(bytes, 1000U + 10 * kThreads);
    }
  }
  stop = true;
  for (std::thread& thread : threads)
    thread.join();
}

TEST_F(PeakTest, AForkChildHasNoneYet) {
  const uint32_t first = stack(0x1000);
  depot().add(first, 100, 1);
  EXPECT_TRUE(record(1000));
  EXPECT_EQ(testing::in_child([&] {
              (void)file().child_detach();
              peak_.forget_after_fork();
              if (file().header()->peak_epoch != 0 || peak_.highest() != 0)
                return 1;
              if (!record(500))
                return 2;
              depot().add(first, 1, 1);
              const abi::StackRecord& kept = *depot().find(first);
              return kept.peak_epoch == file().header()->peak_epoch &&
                             kept.peak_estimated_bytes == 100
                         ? 0
                         : 3;
            }),
            0);
  EXPECT_EQ(epoch(), 1U);  // the parent's is as it was
  EXPECT_EQ(head().bytes, 1000U);
}

}  // namespace
}  // namespace slabscope::diag
