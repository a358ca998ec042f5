// SPDX-License-Identifier: MIT
//
// Heap: what is allocated on behalf of the shim itself (OwnScope).

#include <gtest/gtest.h>

#include <vector>

#include "slab/heap.h"
#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

CounterPair total_of_others() {
  CounterPair sum{};
  for (unsigned id = Config::kFirstMallocId; id < Config::kOwnId; ++id) {
    sum.allocs += g_threads.total(id).allocs;
    sum.frees += g_threads.total(id).frees;
  }
  return sum;
}

TEST(HeapOwn, BlocksOfTheScopeCountAsTheShimsOwn) {
  testing::in_thread([] {
    void* before = allocate(100);
    const CounterPair others = total_of_others();
    const CounterPair own = g_threads.total(Config::kOwnId);
    std::vector<void*> blocks;
    {
      const OwnScope scope;
      for (size_t size = 0; size <= Config::kOwnObjectBytes; size += 64) {
        blocks.push_back(allocate(size));
      }
    }
    EXPECT_EQ(g_threads.total(Config::kOwnId).allocs - own.allocs, blocks.size());
    EXPECT_EQ(total_of_others().allocs, others.allocs);
    for (void* block : blocks) {
      EXPECT_EQ(usable_size(block), size_t{Config::kOwnObjectBytes});
      deallocate(block);
    }
    EXPECT_EQ(g_threads.total(Config::kOwnId).frees - own.frees, blocks.size());
    deallocate(before);
  });
  testing::validate_heap();
}

TEST(HeapOwn, TheThreadsListsAreAsTheyWereAfterTheScope) {
  testing::in_thread([] {
    void* block = allocate(100);
    deallocate(block);
    {
      const OwnScope scope;
      deallocate(allocate(100));
    }
    EXPECT_EQ(allocate(100), block);
    deallocate(block);
  });
}

TEST(HeapOwn, AProgramsBlockFreedInTheScopeIsCountedAsTheProgramsFree) {
  testing::in_thread([] {
    void* block = allocate(100);
    const CounterPair before = g_threads.total(SizeClass::id_of(100));
    {
      const OwnScope scope;
      deallocate(block);
    }
    EXPECT_EQ(g_threads.total(SizeClass::id_of(100)).frees - before.frees, 1U);
  });
}

TEST(HeapOwn, NothingIsTrackedInTheScope) {
  testing::HooksGuard guard;
  static int tracked;
  tracked = 0;
  g_hooks.sample_distance = [](uint64_t*, size_t, uint32_t) { return uint64_t{0}; };
  g_hooks.track = [](const void*, size_t, size_t, unsigned, uint32_t, uint32_t) {
    ++tracked;
    return uint32_t{0};
  };
  testing::in_fresh_slot([] {
    const OwnScope scope;
    for (int i = 0; i < 100; ++i)
      deallocate(allocate(static_cast<size_t>(i)));
  });
  EXPECT_EQ(tracked, 0);
}

TEST(HeapOwn, AlignmentHoldsInTheScope) {
  testing::in_thread([] {
    const OwnScope scope;
    std::vector<void*> blocks;
    for (size_t alignment = 16; alignment <= 4 * Config::kChunk; alignment *= 2) {
      for (const size_t size : {1UL, 100UL, 4096UL, 5000UL}) {
        void* block = allocate_aligned(alignment, size);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % alignment, 0U) << size << " " << alignment;
        EXPECT_GE(usable_size(block), size);
        blocks.push_back(block);
      }
    }
    for (void* block : blocks)
      deallocate(block);
  });
}

TEST(HeapOwn, RandomOperationsKeepTheirPromisesInTheScope) {
  testing::in_thread([] {
    const OwnScope scope;
    testing::HeapModel model(testing::test_seed(101));
    testing::OpStream stream(testing::test_seed(101), 200, 200000);
    for (int step = 0; step < 3000; ++step) {
      ASSERT_TRUE(model.apply(stream.next(model.live()))) << model.error();
    }
    EXPECT_TRUE(model.free_all()) << model.error();
  });
  testing::validate_heap();
}

}  // namespace
}  // namespace slabscope
