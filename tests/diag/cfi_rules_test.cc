// SPDX-License-Identifier: MIT

#include "diag/cfi_rules.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>

#include <cstring>
#include <initializer_list>
#include <random>
#include <vector>

#include "diag/cfi_expression.h"

namespace slabscope::diag {
namespace {

constexpr size_t kPage = 4096;

// Bytes between two pages that cannot be read, at either end of what lies between.
class Guarded {
 public:
  explicit Guarded(size_t bytes) : pages_((bytes + kPage - 1) / kPage * kPage), bytes_(bytes) {
    base_ = static_cast<char*>(
        mmap(nullptr, pages_ + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_EQ(mprotect(base_ + kPage, pages_, PROT_READ | PROT_WRITE), 0);
  }
  ~Guarded() { munmap(base_, pages_ + 2 * kPage); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  [[nodiscard]] ByteRange at_low() const { return range(base_ + kPage); }
  [[nodiscard]] ByteRange at_high() const { return range(base_ + kPage + pages_ - bytes_); }

 private:
  [[nodiscard]] ByteRange range(char* first) const {
    const auto low = reinterpret_cast<uintptr_t>(first);
    return {low, low + bytes_};
  }

  size_t pages_;
  size_t bytes_;
  char* base_;
};

ByteRange range_of(const std::vector<uint8_t>& bytes) {
  const auto low = reinterpret_cast<uintptr_t>(bytes.data());
  return {low, low + bytes.size()};
}

// The row at `pc` of a function [0, 1000) with data alignment -8 and these instructions.
std::optional<CfiRow> row_of(const std::vector<uint8_t>& common, const std::vector<uint8_t>& own,
                             uintptr_t pc) {
  CfiFunction function;
  function.fde = range_of(own).low;
  function.code = {0, 1000};
  function.common_program = range_of(common);
  function.program = range_of(own);
  function.data_align = -8;
  return rules_at(function, pc);
}

const std::vector<uint8_t> kUsualCommon = {0x0c, 7, 8, 0x90,
                                           1};  // CFA = rsp + 8; return at CFA - 8

TEST(CfiRules, AProloguesRulesHoldFromTheirPcOn) {
  // +1: CFA rsp+16, rbp at -16; +3: CFA rbp+16; +200: rbx at -24
  const std::vector<uint8_t> own = {0x41, 0x0e, 16,   0x86, 2,    0x43, 0x0d,
                                    6,    0x02, 0xc8, 0x83, 0x03, 0x00, 0x00};
  auto row = row_of(kUsualCommon, own, 0);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->cfa_register, static_cast<unsigned>(kCfiSp));
  EXPECT_EQ(row->cfa.value(), 8);
  EXPECT_EQ(row->rules[kCfiReturn].value(), -8);
  EXPECT_EQ(row->rules[kCfiFp].kind(), CfiRule::kUnset);
  row = row_of(kUsualCommon, own, 3);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->cfa.value(), 16);
  EXPECT_EQ(row->cfa_register, static_cast<unsigned>(kCfiSp));
  EXPECT_EQ(row->rules[kCfiFp].value(), -16);
  row = row_of(kUsualCommon, own, 4);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->cfa_register, static_cast<unsigned>(kCfiFp));
  EXPECT_EQ(row->rules[kCfiBx].kind(), CfiRule::kUnset);
  row = row_of(kUsualCommon, own, 204);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->rules[kCfiBx].value(), -24);
}

TEST(CfiRules, StatesAreRememberedAndRestored) {
  // rbp at -16; remember; +1: rbp restored, CFA rsp+64; +1: state restored; +1: rbx undefined
  const std::vector<uint8_t> own = {0x86, 2, 0x0a, 0x41, 0xc6, 0x0e, 64, 0x41, 0x0b, 0x41, 7, 3};
  auto row = row_of(kUsualCommon, own, 1);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->rules[kCfiFp].kind(), CfiRule::kUnset);
  EXPECT_EQ(row->cfa.value(), 64);
  row = row_of(kUsualCommon, own, 2);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->rules[kCfiFp].value(), -16);
  EXPECT_EQ(row->cfa.value(), 8);
  row = row_of(kUsualCommon, own, 3);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->rules[kCfiBx].kind(), CfiRule::kUndefined);
  EXPECT_FALSE(row_of(kUsualCommon, {0x0b}, 1)) << "nothing was remembered";
  EXPECT_FALSE(row_of(kUsualCommon, {0x0a, 0x0a, 0x0a}, 1)) << "too deep";
}

TEST(CfiRules, TheLongFormsMeanTheSame) {
  struct Case {
    std::vector<uint8_t> own;
    unsigned reg;
    CfiRule kind;
    int64_t value;
  };
  const std::vector<Case> cases = {
      {{0x05, 12, 3}, kCfiR12, CfiRule::kAtOffset, -24},
      {{0x11, 12, 0x7f}, kCfiR12, CfiRule::kAtOffset, 8},
      {{0x14, 12, 3}, kCfiR12, CfiRule::kOffset, -24},
      {{0x15, 12, 0x7e}, kCfiR12, CfiRule::kOffset, 16},
      {{0x09, 16, 5}, kCfiReturn, CfiRule::kRegister, 5},
      {{0x08, 12}, kCfiR12, CfiRule::kSame, 0},
      {{0x8c, 3, 0x06, 12}, kCfiR12, CfiRule::kUnset, 0},
      {{0x10, 12, 2, 0x77, 8}, kCfiR12, CfiRule::kAtExpression, 2},
      {{0x16, 12, 2, 0x77, 8}, kCfiR12, CfiRule::kExpression, 2},
      {{0x2e, 16, 0x03, 0xff, 0x0f, 7, 12}, kCfiR12, CfiRule::kUnset, 0},
  };
  for (const auto& test : cases) {
    const auto row = row_of(kUsualCommon, test.own, 1);
    ASSERT_TRUE(row);
    EXPECT_EQ(row->rules[test.reg].kind(), test.kind);
    EXPECT_EQ(row->rules[test.reg].value(), test.value);
  }
  auto row = row_of(kUsualCommon, {0x12, 6, 0x7e, 0x13, 0x7c}, 1);  // def_cfa_sf, offset_sf
  ASSERT_TRUE(row);
  EXPECT_EQ(row->cfa_register, static_cast<unsigned>(kCfiFp));
  EXPECT_EQ(row->cfa.value(), 32);
  row = row_of(kUsualCommon, {0x0f, 2, 0x77, 8}, 1);
  ASSERT_TRUE(row);
  EXPECT_EQ(row->cfa.kind(), CfiRule::kExpression);
}

TEST(CfiRules, CutOrUnknownInstructionsAreNoRules) {
  for (const std::vector<uint8_t>& own : std::initializer_list<std::vector<uint8_t>>{
           {0x3f},
           {0x86},
           {0x0c, 7},
           {0x0f, 9, 1},
           {0x0e, 0x80},
           {0x0e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
           {0x0e, 0xff, 0xff, 0xff, 0xff, 0x7f},
           {0x0c, 17, 8},
           {0x0f, 1, 0x96, 0x0e, 8}})
    EXPECT_FALSE(row_of(kUsualCommon, own, 1));
  EXPECT_FALSE(row_of(kUsualCommon, std::vector<uint8_t>(5000, 0), 1)) << "too many";
}

// ---- expressions ----------------------------------------------------------------------------

std::optional<uintptr_t> value_of(std::vector<uint8_t> operations) {
  RegisterSet registers;
  registers.set(kCfiSp, 0x1000);
  registers.set(kCfiReturn, 0x40000b);
  operations.insert(operations.begin(), static_cast<uint8_t>(operations.size()));
  StackWindow stack;
  return evaluate(range_of(operations), registers, stack, std::nullopt);
}

TEST(CfiExpression, ThatOfPltStubs) {
  // rsp + 8 + ((rip & 15) >= 11) * 8
  EXPECT_EQ(value_of({0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}), 0x1010U);
}

TEST(CfiExpression, Arithmetic) {
  const std::vector<std::pair<std::vector<uint8_t>, uintptr_t>> cases = {
      {{0x38, 0x35, 0x1c}, 3},
      {{0x38, 0x35, 0x1e}, 40},
      {{0x31, 0x09, 0x80, 0x24}, 0},
      {{0x09, 0x80, 0x31, 0x26}, ~uintptr_t{63}},
      {{0x0b, 0xfe, 0xff, 0x23, 3}, 1},
      {{0x0c, 1, 0, 0, 0, 0x1f, 0x20}, 0},
      {{0x31, 0x32, 0x16, 0x1c}, 1},
      {{0x31, 0x32, 0x14, 0x22, 0x22}, 4},
      {{0x31, 0x28, 1, 0, 0x96, 0x35}, 5},
      {{0x2f, 1, 0, 0xff, 0x36}, 6},
      {{0x11, 0x7f, 0x30, 0x2d}, 1},
      {{0x10, 0x80, 0x01, 0x33, 0x21, 0x31, 0x27}, 0x82},
  };
  for (const auto& [operations, expected] : cases)
    EXPECT_EQ(value_of(operations), expected);
}

TEST(CfiExpression, BadOnesHaveNoValue) {
  EXPECT_EQ(value_of({}), std::nullopt);
  EXPECT_EQ(value_of({0x22}), std::nullopt) << "nothing to add";
  EXPECT_EQ(value_of({0x73, 0}), std::nullopt) << "rbx is not known";
  EXPECT_EQ(value_of({0x30, 0x06}), std::nullopt) << "address 0";
  EXPECT_EQ(value_of({0x30, 0x2f, 0xfc, 0xff}), std::nullopt) << "endless";
  EXPECT_EQ(value_of({0x2f, 0, 0x80}), std::nullopt) << "before the beginning";
  EXPECT_EQ(value_of(std::vector<uint8_t>(20, 0x31)), std::nullopt) << "too deep";
}

// ---- whole sections, whole and broken -------------------------------------------------------

// A library's segment with .eh_frame_hdr and .eh_frame, copied between guard pages.
struct Section {
  ByteRange original;
  uintptr_t index = 0;
  ByteRange code;
};

Section libc_section() {
  Section section;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& found = *static_cast<Section*>(data);
        if (strstr(info->dlpi_name, "libc.so") == nullptr)
          return 0;
        for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME)
            found.index = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        }
        for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          const uintptr_t low = info->dlpi_addr + header.p_vaddr;
          const ByteRange range{low, low + header.p_filesz};
          if (header.p_type == PT_LOAD && (header.p_flags & PF_X) != 0)
            found.code = range;
          if (header.p_type == PT_LOAD && range.contains(found.index))
            found.original = range;
        }
        return 1;
      },
      &section);
  // The rest of the segment is not needed.
  section.original.low = section.index;
  return section;
}

// What the walk does with one pc, to the end.
bool use(ByteRange bounds, uintptr_t pc) {
  const auto function = find_function(bounds, bounds.low, pc);
  if (!function)
    return false;
  const auto row = rules_at(*function, pc);
  if (!row)
    return false;
  static const Guarded kMemory(2 * kPage);
  RegisterSet registers;
  for (unsigned reg = 0; reg < kCfiRegisters; ++reg)
    registers.set(reg, kMemory.at_low().low + kPage);
  StackWindow stack;
  const auto run = [&](PackedRule rule) {
    if (rule.kind() == CfiRule::kExpression || rule.kind() == CfiRule::kAtExpression)
      static_cast<void>(evaluate(function->block(rule.value()), registers, stack, 0));
  };
  run(row->cfa);
  for (const PackedRule rule : row->rules)
    run(rule);
  return true;
}

TEST(CfiRules, ACorruptedSectionIsReadOnlyInside) {
  const Section section = libc_section();
  ASSERT_NE(section.index, 0U);
  const size_t bytes = section.original.high - section.original.low;
  const auto* original = reinterpret_cast<const char*>(section.original.low);
  Guarded guarded(bytes);
  std::mt19937_64 random(3);
  unsigned intact = 0;
  for (const ByteRange bounds : {guarded.at_low(), guarded.at_high()}) {
    auto* copy = reinterpret_cast<char*>(bounds.low);
    const uintptr_t shift = bounds.low - section.original.low;
    const auto random_pc = [&] {
      return section.code.low + random() % (section.code.high - section.code.low) + shift;
    };
    memcpy(copy, original, bytes);
    for (int i = 0; i < 10000; ++i)
      intact += use(bounds, random_pc()) ? 1 : 0;
    for (int round = 0; round < 60; ++round) {
      memcpy(copy, original, bytes);
      // The header itself, single bits, or whole words that look like lengths and LEB128.
      if (round % 4 == 0)
        copy[random() % 16] = static_cast<char>(random());
      for (size_t i = 0; i < bytes >> (4 + round % 4); ++i) {
        char& byte = copy[12 + random() % (bytes - 12)];
        byte = static_cast<char>(byte ^ (1 << (random() & 7U)));
      }
      for (int i = 0; i < 400; ++i) {
        const uint32_t word = random() % 2 == 0 ? UINT32_MAX : static_cast<uint32_t>(random());
        memcpy(copy + 12 + random() % (bytes - 16), &word, sizeof word);
      }
      for (int i = 0; i < 2000; ++i)
        static_cast<void>(use(bounds, random_pc()));
    }
  }
  EXPECT_GT(intact, 15000U) << "of 20000";
}

TEST(CfiRules, RandomProgramsAreReadOnlyInside) {
  Guarded guarded(64);
  std::mt19937_64 random(4);
  unsigned accepted = 0;
  for (int round = 0; round < 200000; ++round) {
    ByteRange bytes = round % 2 == 0 ? guarded.at_high() : guarded.at_low();
    auto* first = reinterpret_cast<uint8_t*>(bytes.low);
    for (unsigned i = 0; i < 64; ++i)
      first[i] = static_cast<uint8_t>(random() >> 20U);
    CfiFunction function;
    function.fde = bytes.low;
    function.code = {0, 100000};
    function.common_program = {bytes.low, bytes.low + 8};
    function.program = {bytes.low + 8, bytes.high};
    function.code_align = random() % 3;
    function.data_align = static_cast<int64_t>(random()) >> (random() % 64);
    accepted += rules_at(function, random() % 200).has_value() ? 1 : 0;
    RegisterSet registers;
    registers.known = static_cast<uint32_t>(random());
    StackWindow stack;
    static_cast<void>(evaluate(bytes, registers, stack, 1));
    static_cast<void>(parse_function(bytes, bytes.low + random() % 64));
    static_cast<void>(find_function(bytes, bytes.low, random() % 100000 + bytes.low));
  }
  EXPECT_GT(accepted, 100U);
}

}  // namespace
}  // namespace slabscope::diag
