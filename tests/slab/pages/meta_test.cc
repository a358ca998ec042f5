// SPDX-License-Identifier: MIT

#include "slab/pages/meta.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

struct Piece {
  char* address;
  size_t bytes;
};

// Takes `count` random pieces, checks that each is aligned and zero, and fills it.
std::vector<Piece> take_pieces(uint64_t seed, int count) {
  testing::Random random(seed);
  std::vector<Piece> pieces;
  for (int i = 0; i < count; ++i) {
    const size_t bytes = 1 + random.below(random.one_in(20) ? 100000 : 500);
    auto* address = static_cast<char*>(meta_allocate(bytes));
    EXPECT_NE(address, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(address) % 64, 0U);
    EXPECT_EQ(std::count(address, address + bytes, 0), static_cast<ptrdiff_t>(bytes));
    std::memset(address, 0xa5, bytes);
    pieces.push_back({address, bytes});
  }
  return pieces;
}

void expect_disjoint(std::vector<Piece> pieces) {
  std::sort(pieces.begin(), pieces.end(),
            [](const Piece& a, const Piece& b) { return a.address < b.address; });
  for (size_t i = 1; i < pieces.size(); ++i) {
    ASSERT_LE(pieces[i - 1].address + pieces[i - 1].bytes, pieces[i].address);
  }
}

TEST(Meta, PiecesAreZeroAlignedAndDisjoint) {
  expect_disjoint(take_pieces(testing::test_seed(21), 400));
}

TEST(Meta, ThreadsGetDisjointPieces) {
  std::vector<std::vector<Piece>> by_thread(4);
  testing::in_threads(4, [&](unsigned i) { by_thread[i] = take_pieces(100 + i, 300); });
  std::vector<Piece> all;
  for (const auto& pieces : by_thread)
    all.insert(all.end(), pieces.begin(), pieces.end());
  expect_disjoint(all);
}

TEST(Meta, MapsInStepsAndCountsThem) {
  const size_t before = meta_mapped_bytes();
  size_t taken = 0;
  while (taken < size_t{1} << 20) {
    ASSERT_NE(meta_allocate(1024), nullptr);
    taken += 1024;
  }
  const size_t mapped = meta_mapped_bytes() - before;
  EXPECT_LE(mapped, taken + (256 << 10));
  EXPECT_GE(mapped, taken - (256 << 10));
}

TEST(Meta, APieceLargerThanABlockDoesNotWasteTheBlockBeingCarved) {
  ASSERT_NE(meta_allocate(64), nullptr);
  ASSERT_NE(meta_allocate(64), nullptr);
  auto* before = static_cast<char*>(meta_allocate(64));
  const size_t mapped = meta_mapped_bytes();
  ASSERT_NE(meta_allocate(1 << 20), nullptr);
  EXPECT_LE(meta_mapped_bytes() - mapped, (size_t{1} << 20) + 4096);
  auto* after = static_cast<char*>(meta_allocate(64));
  // The next small piece follows the last one, unless the block happened to end there.
  EXPECT_TRUE(after == before + 64 || meta_mapped_bytes() - mapped > (size_t{1} << 20) + 4096);
}

TEST(Meta, SaysSoWhenTheKernelHasNoMemory) {
  EXPECT_EQ(meta_allocate(size_t{1} << 50), nullptr);
  EXPECT_EQ(testing::in_child([] {
              testing::limit_address_space(0);
              for (int i = 0; i < 100; ++i) {
                if (meta_allocate(64 << 10) == nullptr) {
                  testing::lift_address_space_limit();
                  return meta_allocate(64 << 10) != nullptr ? 0 : 1;
                }
              }
              return 2;
            }),
            0);
}

}  // namespace
}  // namespace slabscope
