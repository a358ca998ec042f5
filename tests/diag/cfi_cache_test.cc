// SPDX-License-Identifier: MIT

#include "diag/cfi_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace slabscope::diag {
namespace {

CfiRow common_row(unsigned base, int64_t offset) {
  CfiRow row;
  row.cfa = PackedRule(CfiRule::kOffset, offset);
  row.cfa_register = base;
  row.rules[kCfiReturn] = PackedRule(CfiRule::kAtOffset, -8);
  return row;
}

TEST(CfiCache, PacksTheCommonForm) {
  CfiRow row = common_row(kCfiFp, 16);
  row.rules[kCfiFp] = PackedRule(CfiRule::kAtOffset, -16);
  row.rules[kCfiR15] = PackedRule(CfiRule::kAtOffset, -255 * 8);
  row.rules[kCfiBx] = PackedRule(CfiRule::kSame, 0);
  const PackedRow packed = pack(row);
  ASSERT_NE(packed, kNotPacked);
  EXPECT_TRUE(packed_from_fp(packed));
  EXPECT_EQ(packed_cfa(packed), 16U);
  EXPECT_EQ(packed_slots(packed), uint64_t{2} << 8U | uint64_t{255} << 40U);

  const PackedRow other = pack(common_row(kCfiSp, 8 * 0x7fff));
  EXPECT_FALSE(packed_from_fp(other));
  EXPECT_EQ(packed_cfa(other), 8U * 0x7fffU);
  EXPECT_EQ(packed_slots(other), 0U);
}

TEST(CfiCache, PacksTheOutermostFrame) {
  EXPECT_EQ(pack(CfiRow{}), kPackedEnd);
  for (const auto rule : {PackedRule(CfiRule::kUndefined, 0), PackedRule(CfiRule::kSame, 0)}) {
    CfiRow row = common_row(kCfiBx, 12);  // its other rules do not matter
    row.rules[kCfiReturn] = rule;
    EXPECT_EQ(pack(row), kPackedEnd);
  }
  EXPECT_NE(pack(common_row(kCfiFp, 8)), kPackedEnd);
}

TEST(CfiCache, RefusesEveryOtherForm) {
  EXPECT_EQ(pack(common_row(kCfiBx, 16)), kNotPacked);
  for (const int64_t offset : {int64_t{0}, int64_t{-8}, int64_t{12}, int64_t{8} * 0x8000})
    EXPECT_EQ(pack(common_row(kCfiSp, offset)), kNotPacked) << offset;
  CfiRow elsewhere = common_row(kCfiSp, 16);
  elsewhere.rules[kCfiReturn] = PackedRule(CfiRule::kAtOffset, -16);
  EXPECT_EQ(pack(elsewhere), kNotPacked);
  for (const auto rule :
       {PackedRule(CfiRule::kAtOffset, -256 * 8), PackedRule(CfiRule::kAtOffset, -12),
        PackedRule(CfiRule::kAtOffset, 8), PackedRule(CfiRule::kRegister, 1),
        PackedRule(CfiRule::kAtExpression, 4), PackedRule(CfiRule::kUndefined, 0)}) {
    CfiRow row = common_row(kCfiSp, 16);
    row.rules[kCfiR12] = rule;
    EXPECT_EQ(pack(row), kNotPacked);
  }
}

TEST(CfiCache, FindsOnlyWhatWasStoredUnderTheKey) {
  const uint64_t key = cache_key(0x1234567, 99);
  cache_store(key, 0x42);
  EXPECT_EQ(cache_find(key), 0x42U);
  EXPECT_EQ(cache_find(cache_key(0x1234567, 98)), kNotPacked);
  EXPECT_EQ(cache_find(cache_key(0x1234568, 99)), kNotPacked);
  EXPECT_EQ(cache_find(key + 1024), kNotPacked) << "the same entry";
}

TEST(CfiCache, TwoKeysOfOnePlaceAreBothThere) {
  constexpr uint64_t kFirst = 0x1000003;  // they differ above the bits that choose the place
  constexpr uint64_t kSecond = 0x2000003;
  constexpr uint64_t kThird = 0x3000003;
  cache_store(kFirst, 3);
  cache_store(kSecond, 5);
  EXPECT_EQ(cache_find(kFirst), 3U);
  EXPECT_EQ(cache_find(kSecond), 5U);
  cache_store(kThird, 7);
  EXPECT_EQ(cache_find(kThird), 7U);
  EXPECT_EQ(cache_find(kSecond), 5U);
  EXPECT_EQ(cache_find(kFirst), kNotPacked);  // the oldest
}

TEST(CfiCache, ATornEntryIsAMiss) {
  // Each key has one row; the keys share few entries, so that writers meet all the time.
  const auto row_of = [](uint64_t key) { return (key >> 20U) * 0x9e3779b97f4a7c15U | 1U; };
  std::atomic<unsigned> wrong{0};
  std::atomic<unsigned> hits{0};
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < 8; ++id) {
    threads.emplace_back([&, id] {
      std::mt19937_64 random(id);
      for (unsigned i = 0; i < 50000; ++i) {
        const uint64_t value = random();
        const uint64_t key = (value % 5) << 20U | (value >> 60U);
        if (i % 2 == 0)
          cache_store(key, row_of(key));
        const PackedRow row = cache_find(key);
        if (row != kNotPacked)
          ++(row == row_of(key) ? hits : wrong);
      }
    });
  }
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(hits, 0U);
}

}  // namespace
}  // namespace slabscope::diag
