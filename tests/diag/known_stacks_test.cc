// SPDX-License-Identifier: MIT
//
// A stack made of words: which of them its name depends on, and which not.
#include "diag/known_stacks.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace slabscope::diag {
namespace {

constexpr uint32_t kName = 7;
constexpr PackedRow kBySp = 1U << 1U;
constexpr PackedRow kByFp = 1U << 1U | 1U;

void somewhere() {}
uintptr_t in_program(unsigned offset) {
  return reinterpret_cast<uintptr_t>(&somewhere) + 1 + offset;
}

class KnownStacksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Frame 2 has a frame pointer, by which frame 3 is found; frames 0 and 1 have none.
    frames_.push_back({in_program(0), address(0), kStartFp, 0, kBySp});
    frames_.push_back({in_program(1), address(8), kStartFp, 0, kBySp});
    frames_.push_back({in_program(2), address(20), address(30), address(12), kByFp});
    frames_.push_back({in_program(3), address(40), address(60), address(30), kBySp});
    frames_.push_back({in_program(4), address(50), address(60), 0, kPackedEnd});
    write();
  }
  // What such a walk has read.
  void write() {
    for (size_t i = 1; i < frames_.size(); ++i) {
      word(frames_[i].sp - sizeof(uintptr_t)) = frames_[i].pc;
      if (frames_[i].fp_slot != 0)
        word(frames_[i].fp_slot) = frames_[i].fp;
    }
  }
  void add(uint32_t name = kName) {
    stacks_->add(frames_.data(), static_cast<unsigned>(frames_.size()), name);
  }
  uint32_t find() {
    return stacks_->find({.pc = frames_[0].pc, .sp = frames_[0].sp, .fp = start_fp_}, window_);
  }

  uintptr_t address(size_t index) { return reinterpret_cast<uintptr_t>(&words_[index]); }
  static uintptr_t& word(uintptr_t address) { return *reinterpret_cast<uintptr_t*>(address); }

  static constexpr uintptr_t kStartFp = 77;  // of a program that has none: anything
  static constexpr size_t kUsed = 50;
  alignas(4096) std::array<uintptr_t, 1024> words_{};
  StackWindow window_{address(0), address(0) + sizeof words_};
  uintptr_t start_fp_ = kStartFp;
  std::vector<WalkedFrame> frames_;
  std::unique_ptr<KnownStacks> stacks_ = std::make_unique<KnownStacks>();
};

TEST_F(KnownStacksTest, AStackIsFoundAndOneThatWasForgottenIsNot) {
  EXPECT_EQ(find(), 0U);
  add();
  EXPECT_EQ(find(), kName);
  stacks_->forget();
  EXPECT_EQ(find(), 0U);
}

TEST_F(KnownStacksTest, EachWordThatTheWalkDependedOnCountsAndNoOther) {
  add();
  // Return addresses, and the frame pointer that frame 2 has: not the one that nobody used.
  const std::vector<size_t> needed = {7, 12, 19, 39, 49};
  for (size_t i = 0; i < kUsed; ++i) {
    words_[i] ^= 8;
    const bool counts = std::find(needed.begin(), needed.end(), i) != needed.end();
    EXPECT_EQ(find(), counts ? 0 : kName) << i;
    words_[i] ^= 8;
  }
  EXPECT_EQ(find(), kName);
}

TEST_F(KnownStacksTest, TheFirstFramePointerCountsIfAFrameIsFoundByIt) {
  add();
  start_fp_ = kStartFp + 8;
  EXPECT_EQ(find(), kName);
  start_fp_ = kStartFp;
  stacks_->forget();
  frames_[1].row = kByFp;
  add();
  EXPECT_EQ(find(), kName);
  start_fp_ = kStartFp + 8;
  EXPECT_EQ(find(), 0U);
}

TEST_F(KnownStacksTest, AnotherPlaceIsAnotherStack) {
  add();
  const WalkedFrame start = frames_[0];
  frames_[0].sp += sizeof(uintptr_t);
  EXPECT_EQ(find(), 0U);
  frames_[0] = start;
  frames_[0].pc += 1;
  EXPECT_EQ(find(), 0U);
}

TEST_F(KnownStacksTest, NothingIsReadOutsideTheWindow) {
  static constexpr size_t kPage = 4096 / sizeof(uintptr_t);
  // The same stack, with its outermost frame on the second page. The first frame of another object
  // than ours, by which it is looked for, is on the first.
  frames_[3].pc = reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, "abort")) + 1;
  frames_.back().sp = address(kPage + 8);
  write();
  add();
  EXPECT_EQ(find(), kName);
  window_ = StackWindow(address(0), address(kPage));
  EXPECT_EQ(find(), 0U);
  window_ = StackWindow(address(kPage), address(2 * kPage));
  EXPECT_EQ(find(), 0U);
  window_ = {};
  EXPECT_EQ(find(), 0U);
}

TEST_F(KnownStacksTest, StacksOfOneCallerAreToldApart) {
  std::vector<std::vector<WalkedFrame>> others;
  for (unsigned i = 0; i < 4; ++i) {
    frames_[3].pc = in_program(100 + i);
    write();
    add(kName + i);
    others.push_back(frames_);
  }
  for (unsigned i = 0; i < 4; ++i) {
    frames_ = others[i];
    write();
    EXPECT_EQ(find(), kName + i);
  }
}

// A frame in code that no object has, as a compiler at run time makes it, may change its rules.
TEST_F(KnownStacksTest, CodeOfNoObjectIsNotRemembered) {
  frames_[3].pc = address(900);
  write();
  add();
  EXPECT_EQ(find(), 0U);
}

TEST_F(KnownStacksTest, AnObjectThatIsGoneEndsItsStacks) {
  void* library = dlopen("libbz2.so.1.0", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    GTEST_SKIP() << "no library to load";
  link_map* map = nullptr;
  ASSERT_EQ(dlinfo(library, RTLD_DI_LINKMAP, &map), 0);
  frames_[3].pc = reinterpret_cast<uintptr_t>(map->l_ld);
  write();
  add();
  EXPECT_EQ(find(), kName);
  ASSERT_EQ(dlclose(library), 0);
  EXPECT_EQ(find(), 0U);
}

TEST_F(KnownStacksTest, AddingMustBeEarned) {
  const auto try_new_stacks = [&] {
    unsigned found = 0;
    for (unsigned i = 0; i < 4096; ++i) {
      frames_[3].pc = in_program(200 + i);
      write();
      add();
      found += find() != 0 ? 1U : 0U;
      frames_[3].pc = 0;
      write();
    }
    return found;
  };
  // Each is found once: what that saves is less than what adding costs.
  const unsigned found = try_new_stacks();
  EXPECT_GT(found, 64U);
  EXPECT_LT(found, 1024U);
  // What is found often pays for others.
  frames_[3].pc = in_program(5);
  write();
  for (unsigned i = 0; i < 64 && find() == 0; ++i)
    add();
  for (unsigned i = 0; i < 2048; ++i)
    ASSERT_EQ(find(), kName);
  frames_[3].pc = in_program(6);
  write();
  add();
  EXPECT_EQ(find(), kName);
}

}  // namespace
}  // namespace slabscope::diag
