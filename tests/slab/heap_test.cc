// SPDX-License-Identifier: MIT

#include "slab/heap.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <vector>

#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

using testing::in_thread;

constexpr size_t kMib = 1 << 20;

TEST(Heap, EverySizeIsServedAlignedWritableAndNoSmaller) {
  in_thread([] {
    for (size_t size = 0; size < 3 * Config::kSmallMax; size += size < 1200 ? 1 : 97) {
      auto* block = static_cast<char*>(allocate(size));
      ASSERT_NE(block, nullptr);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(block) % 16, 0U);
      const size_t usable = usable_size(block);
      ASSERT_GE(usable, size);
      ASSERT_LE(usable, size + size / 8 + Config::kChunk);
      std::memset(block, 'x', usable);
      deallocate(block);
    }
  });
}

TEST(Heap, NullIsFreedAndMeasuredQuietly) {
  in_thread([] {
    deallocate(nullptr);
    EXPECT_EQ(usable_size(nullptr), 0U);
  });
}

TEST(Heap, BlocksOfNoBytesAreDistinct) {
  in_thread([] {
    void* a = allocate(0);
    void* b = allocate(0);
    EXPECT_NE(a, nullptr);
    EXPECT_NE(a, b);
    deallocate(a);
    deallocate(b);
  });
}

TEST(Heap, ZeroedBlocksAreZeroOnMemoryThatWasUsed) {
  in_thread([] {
    for (const size_t size : {1UL, 48UL, 1000UL, 5000UL, 40000UL, 1UL << 20, 40UL << 20}) {
      for (int round = 0; round < 2; ++round) {
        auto* block = static_cast<char*>(allocate_zeroed(size));
        ASSERT_NE(block, nullptr);
        ASSERT_TRUE(testing::all_zero(block, size)) << size;
        std::memset(block, 'x', size);
        deallocate(block);
      }
    }
  });
}

TEST(Heap, AlignedBlocksAreAligned) {
  in_thread([] {
    for (size_t alignment = 1; alignment <= size_t{1} << 30; alignment *= 2) {
      for (const size_t size : {0UL, 1UL, 100UL, 1025UL, 20000UL, 33000UL, 5UL << 20}) {
        auto* block = static_cast<char*>(allocate_aligned(alignment, size));
        ASSERT_NE(block, nullptr) << size << " at " << alignment;
        ASSERT_EQ(reinterpret_cast<uintptr_t>(block) % alignment, 0U);
        ASSERT_GE(usable_size(block), size);
        if (size > 0)
          block[0] = block[size - 1] = 'x';
        deallocate(block);
      }
    }
    testing::validate_heap();
  });
}

TEST(Heap, RequestsBeyondTheAddressSpaceFailAndAreCounted) {
  in_thread([] {
    const uint64_t too_large = stat_get(g_heap_stats->failures_too_large);
    const uint64_t no_memory = stat_get(g_heap_stats->failures_no_memory);
    EXPECT_EQ(allocate(SIZE_MAX), nullptr);
    EXPECT_EQ(allocate(Config::kMaxRequest + 1), nullptr);
    EXPECT_EQ(allocate_zeroed(SIZE_MAX), nullptr);
    EXPECT_EQ(allocate_aligned(4096, SIZE_MAX), nullptr);
    EXPECT_EQ(stat_get(g_heap_stats->failures_too_large) - too_large, 4U);
    EXPECT_EQ(allocate(Config::kMaxRequest), nullptr);
    EXPECT_EQ(allocate_aligned(size_t{1} << 62, 100), nullptr);
    EXPECT_EQ(stat_get(g_heap_stats->failures_no_memory) - no_memory, 2U);
  });
}

TEST(Heap, AFailedReallocationLeavesTheBlock) {
  in_thread([] {
    for (const size_t size : {100UL, 100000UL, 40UL << 20}) {
      auto* block = static_cast<char*>(allocate(size));
      block[0] = block[size - 1] = 'x';
      EXPECT_EQ(reallocate(block, SIZE_MAX), nullptr);
      EXPECT_EQ(reallocate(block, Config::kMaxRequest), nullptr);
      EXPECT_EQ(block[0], 'x');
      EXPECT_EQ(block[size - 1], 'x');
      deallocate(block);
    }
  });
}

TEST(Heap, ReallocationKeepsContentsBetweenAnyTwoSizes) {
  in_thread([] {
    const size_t sizes[] = {1,     16,     100,    1024,     1025,      5000,      32768,
                            32769, 100000, 500000, 4 * kMib, 31 * kMib, 33 * kMib, 50 * kMib};
    for (const size_t from : sizes) {
      for (const size_t to : sizes) {
        auto* block = static_cast<char*>(allocate(from));
        const size_t kept = from < to ? from : to;
        block[0] = 'a';
        block[kept - 1] = 'b';
        block[kept / 2] = 'c';
        auto* moved = static_cast<char*>(reallocate(block, to));
        ASSERT_NE(moved, nullptr);
        ASSERT_GE(usable_size(moved), to);
        ASSERT_EQ(moved[kept / 2], 'c') << from << " to " << to;
        if (kept > 2) {
          ASSERT_EQ(moved[0], 'a') << from << " to " << to;
          ASSERT_EQ(moved[kept - 1], 'b') << from << " to " << to;
        }
        deallocate(moved);
      }
    }
    testing::validate_heap();
  });
}

TEST(Heap, AMuchSmallerBlockGivesItsMemoryBack) {
  in_thread([] {
    void* block = allocate(20 * kMib);
    const uint64_t large = stat_get(g_heap_stats->mapped_large_bytes);
    block = reallocate(block, kMib);
    EXPECT_EQ(large - stat_get(g_heap_stats->mapped_large_bytes), 19 * kMib);
    block = reallocate(block, 100);
    EXPECT_LE(usable_size(block), 112U);
    deallocate(block);
  });
}

TEST(Heap, ABlockThatGrowsStepByStepIsCopiedSeldom) {
  in_thread([] {
    auto* block = static_cast<char*>(allocate(100));
    int moves = 0;
    for (size_t size = 200; size < 4 * kMib; size += 5000) {
      void* other = allocate(40000);  // so that it cannot always grow in place
      auto* grown = static_cast<char*>(reallocate(block, size));
      moves += grown != block;
      block = grown;
      deallocate(other);
    }
    EXPECT_LE(moves, 60);
    deallocate(block);
  });
}

// ---- random operations ----------------------------------------------------------------------

void run_stream(uint64_t seed, int steps, size_t most_live, size_t largest) {
  testing::HeapModel model(seed);
  testing::OpStream stream(seed, most_live, largest);
  for (int step = 0; step < steps; ++step) {
    ASSERT_TRUE(model.apply(stream.next(model.live()))) << model.error();
    if (step % 5000 == 0)
      testing::validate_heap();
  }
  EXPECT_TRUE(model.check_all()) << model.error();
  EXPECT_TRUE(model.free_all()) << model.error();
}

TEST(Heap, RandomOperationsKeepAllPromises) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    in_thread([seed] { run_stream(testing::test_seed(seed), 15000, 400, 300000); });
  }
  in_thread([] { run_stream(testing::test_seed(4), 15000, 3000, 3000); });
  in_thread([] { run_stream(testing::test_seed(5), 600, 20, 60 * kMib); });
  testing::validate_heap();
}

TEST(Heap, RandomOperationsInThreadsThatFreeEachOthersBlocks) {
  std::mutex mutex;
  std::vector<testing::ModelBlock> mailbox;
  const uint64_t seed = testing::test_seed(81);
  testing::in_threads(4, [&](unsigned thread) {
    testing::HeapModel model(seed + thread);
    testing::OpStream stream(seed + thread, 200, 100000);
    testing::Random random(seed + thread);
    for (int step = 0; step < (testing::kThreadSanitizer ? 3000 : 12000); ++step) {
      ASSERT_TRUE(model.apply(stream.next(model.live()))) << model.error();
      if (model.live() == 0 || !random.one_in(3))
        continue;
      const testing::ModelBlock given = model.give(random.below(model.live()));
      testing::ModelBlock taken;
      {
        std::lock_guard lock(mutex);
        mailbox.push_back(given);
        std::swap(mailbox[random.below(mailbox.size())], mailbox.back());
        taken = mailbox.back();
        mailbox.pop_back();
      }
      ASSERT_TRUE(model.adopt(taken)) << model.error();
    }
    ASSERT_TRUE(model.free_all()) << model.error();
  });
  testing::validate_heap();
}

// ---- giving memory back ---------------------------------------------------------------------

TEST(Heap, TrimGivesTheKernelWhatNobodyUses) {
  in_thread([] {
    std::vector<void*> blocks;
    for (int i = 0; i < 20000; ++i)
      blocks.push_back(allocate(1000));
    for (int i = 0; i < 100; ++i)
      blocks.push_back(allocate(100000));
    blocks.push_back(allocate(40 * kMib));
    trim();
    for (void* block : blocks)
      deallocate(block);
    const uint64_t slabs = stat_get(g_heap_stats->mapped_slab_bytes);
    const uint64_t released = stat_get(g_heap_stats->released_bytes);
    EXPECT_GT(stat_get(g_heap_stats->free_dirty_bytes), 40 * kMib);
    const size_t trimmed = trim();
    EXPECT_GT(trimmed, 60 * kMib);
    EXPECT_EQ(stat_get(g_heap_stats->released_bytes) - released, trimmed);
    EXPECT_EQ(stat_get(g_heap_stats->free_dirty_bytes), 0U);
    EXPECT_LE(stat_get(g_heap_stats->mapped_slab_bytes), slabs);
    testing::validate_heap();
  });
}

}  // namespace
}  // namespace slabscope
