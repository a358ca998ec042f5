// SPDX-License-Identifier: MIT
//
// Heap: pointers that are no blocks, and fork() with threads at work.

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <thread>
#include <vector>

#include "slab/heap.h"
#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

constexpr char kDoubleFree[] = "slabscope: double free of 0x[0-9a-f]+ ";

TEST(HeapDeathTest, ALargeBlockFreedTwicePanics) {
  EXPECT_DEATH(
      {
        void* block = allocate(100000);
        deallocate(block);
        deallocate(block);
      },
      kDoubleFree);
}

TEST(HeapDeathTest, ASmallObjectFreedTwiceInARowPanics) {
  for (const size_t size : {16UL, 1000UL, 5000UL, 32768UL}) {
    EXPECT_DEATH(
        {
          void* object = allocate(size);
          deallocate(object);
          deallocate(object);
        },
        kDoubleFree);
  }
}

TEST(HeapDeathTest, AMappingFreedTwicePanics) {
  EXPECT_DEATH(
      {
        void* block = allocate(40 << 20);
        deallocate(block);
        deallocate(block);
      },
      "slabscope: invalid free of 0x[0-9a-f]+ \\(no allocation returned it\\)");
}

TEST(HeapDeathTest, APointerIntoALargeBlockPanics) {
  for (const size_t offset : {size_t{16}, size_t{4096}, Config::kChunk, size_t{50001}}) {
    EXPECT_DEATH(deallocate(static_cast<char*>(allocate(100000)) + offset),
                 "double free of 0x[0-9a-f]+ \\(or of a pointer into the middle of a block\\)");
  }
}

TEST(HeapDeathTest, AnObjectOfAReleasedSlabPanics) {
  EXPECT_DEATH(
      {
        void* object = allocate(3000);
        deallocate(object);
        trim();
        deallocate(object);
      },
      kDoubleFree);
}

TEST(HeapDeathTest, AStackPointerPanics) {
  long here = 0;
  EXPECT_DEATH(deallocate(&here), "slabscope: invalid free of 0x[0-9a-f]+");
}

TEST(HeapDeathTest, OnlyBlocksHaveASize) {
  long here = 0;
  constexpr char kNoBlock[] = "slabscope: no block starts at 0x[0-9a-f]+";
  EXPECT_DEATH((void)usable_size(&here), kNoBlock);
  EXPECT_DEATH((void)usable_size(static_cast<char*>(allocate(100)) + 8), kNoBlock);
  EXPECT_DEATH((void)usable_size(static_cast<char*>(allocate(100000)) + 16), kNoBlock);
  EXPECT_DEATH((void)reallocate(&here, 100), kNoBlock);
}

TEST(Heap, BlocksOfAnotherAllocatorGoToTheForeignHooks) {
  testing::HooksGuard guard;
  static void* freed;
  g_hooks.foreign_free = [](void* block) {
    freed = block;
    return true;
  };
  g_hooks.foreign_size = [](void*) { return size_t{5}; };
  testing::in_thread([] {
    long here = 0;
    const uint64_t before = stat_get(g_heap_stats->foreign_frees);
    EXPECT_EQ(usable_size(&here), 5U);
    deallocate(&here);
    EXPECT_EQ(freed, &here);
    EXPECT_EQ(stat_get(g_heap_stats->foreign_frees) - before, 1U);
  });
}

// ---- fork -----------------------------------------------------------------------------------

// What preload's handlers do around fork().
int fork_heap(const std::function<int()>& body) {
  heap_lock_for_fork();
  const int result = testing::in_child([&body] {
    heap_reset_after_fork();
    return body();
  });
  heap_unlock_after_fork();
  return result;
}

int allocate_in_child(uint64_t seed) {
  testing::HeapModel model(seed);
  testing::OpStream stream(seed, 100, 100000);
  for (int step = 0; step < 1000; ++step) {
    if (!model.apply(stream.next(model.live()))) {
      std::fprintf(stderr, "%s\n", model.error().c_str());
      return 1;
    }
  }
  testing::validate_heap();
  return model.free_all() ? 0 : 2;
}

TEST(Heap, AChildOfForkInThreadsHasAWorkingHeap) {
  std::atomic<bool> stop{false};
  std::atomic<int> errors{0};
  constexpr unsigned kWorkers = 3;
  std::latch at_work(kWorkers);  // a thread's start enters the sanitizers' allocators, its work not
  std::vector<testing::SlabThread> workers;
  for (unsigned i = 0; i < kWorkers; ++i) {
    workers.emplace_back([i, &at_work, &stop, &errors] {
      testing::HeapModel model(i);
      testing::OpStream stream(i, 300, 60000);
      at_work.count_down();
      for (int step = 0; !stop.load(std::memory_order_relaxed); ++step) {
        if (!model.apply(stream.next(model.live())))
          ++errors;
        if (step % 200 == 0)
          trim();
      }
      if (!model.check_all())
        ++errors;
    });
  }
  at_work.wait();
  testing::in_thread([] {
    deallocate(allocate(10));
    for (uint64_t round = 0; round < 6; ++round) {
      EXPECT_EQ(fork_heap([round] {
                  // GCC 12's TSan holds none of its own allocator's locks over fork(), so a child
                  // of threads must not enter it, as any atomic does: the parent alone is checked.
                  if (testing::kThreadSanitizer)
                    return 0;
                  // The slots of the threads that are gone serve new ones.
                  int result = allocate_in_child(round);
                  for (uint64_t thread = 1; thread <= 4 && result == 0; ++thread) {
                    testing::in_thread(
                        [&result, round, thread] { result = allocate_in_child(round + thread); });
                  }
                  return result;
                }),
                0);
    }
  });
  stop = true;
  workers.clear();
  EXPECT_EQ(errors.load(), 0);
  testing::validate_heap();
}

TEST(Heap, AChildSeesAndFreesWhatItsParentAllocated) {
  testing::in_thread([] {
    auto* small = static_cast<char*>(allocate(100));
    auto* large = static_cast<char*>(allocate(100000));
    small[0] = large[0] = 'x';
    EXPECT_EQ(fork_heap([small, large] {
                if (small[0] != 'x' || large[0] != 'x')
                  return 1;
                deallocate(small);
                deallocate(large);
                testing::validate_heap();
                return 0;
              }),
              0);
    EXPECT_EQ(small[0], 'x');
    deallocate(small);
    deallocate(large);
  });
}

}  // namespace
}  // namespace slabscope
