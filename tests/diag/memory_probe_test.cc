// SPDX-License-Identifier: MIT
//
// What a window of readable stack holds after words outside it were asked for.
#include "diag/memory_probe.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

namespace slabscope::diag {
namespace {

constexpr size_t kPage = abi::kPageBytes;
constexpr size_t kPages = 40;

class StackWindowTest : public ::testing::Test {
 protected:
  void SetUp() override {
    void* memory =
        mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    base_ = reinterpret_cast<uintptr_t>(memory);
    window_ = StackWindow(page(1), page(2));
  }
  void TearDown() override { munmap(reinterpret_cast<void*>(base_), kPages * kPage); }

  uintptr_t page(size_t number) const { return base_ + number * kPage; }
  void forbid(size_t number) {
    ASSERT_EQ(mprotect(reinterpret_cast<void*>(page(number)), kPage, PROT_NONE), 0);
  }
  void expect_window(size_t low, size_t high) {
    EXPECT_EQ(window_.low(), page(low));
    EXPECT_EQ(window_.high(), page(high));
  }

  uintptr_t base_ = 0;
  StackWindow window_;
};

TEST_F(StackWindowTest, GrowsByThePagesBesideIt) {
  EXPECT_TRUE(window_.load(page(2)).has_value());
  expect_window(1, 3);
  EXPECT_TRUE(window_.load(page(0) + 8).has_value());
  expect_window(0, 3);
}

TEST_F(StackWindowTest, AFrameOfSeveralPagesDoesNotEndIt) {
  EXPECT_TRUE(window_.load(page(9) + 8).has_value());
  expect_window(1, 10);
}

TEST_F(StackWindowTest, AnotherStackIsAnotherWindow) {
  EXPECT_TRUE(window_.load(page(30)).has_value());
  expect_window(30, 31);
}

TEST_F(StackWindowTest, HoldsNoPageThatCannotBeRead) {
  forbid(4);
  EXPECT_TRUE(window_.load(page(5)).has_value());
  expect_window(5, 6);
  EXPECT_FALSE(window_.load(page(4)).has_value());
  expect_window(5, 6);
}

}  // namespace
}  // namespace slabscope::diag
