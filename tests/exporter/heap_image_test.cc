// SPDX-License-Identifier: MIT

#include "exporter/analysis/heap_image.h"

#include <gtest/gtest.h>

#include "tests/exporter/fake_heap.h"

namespace slabscope {
namespace {

using testing::FakeHeap;

TEST(HeapImage, CarvedObjectsThatAreOnNoListAreLive) {
  FakeHeap heap;
  heap.set_word(3, 2, 10);  // objects 2 and 5 are back
  heap.put<uint64_t>(FakeHeap::object(2), FakeHeap::object(5));
  heap.put<uint64_t>(FakeHeap::kSlots + 16, FakeHeap::object(7));  // and 7 is on a thread's list
  uint64_t damaged = 1;
  EXPECT_EQ(heap.live(&damaged), 7U);
  EXPECT_EQ(damaged, 0U);
}

TEST(HeapImage, AChainThatBitesItsTailEnds) {
  FakeHeap heap;
  heap.set_word(1, 60, 64);
  heap.put<uint64_t>(FakeHeap::object(0), FakeHeap::object(1));
  heap.put<uint64_t>(FakeHeap::object(1), FakeHeap::object(0));
  uint64_t damaged = 0;
  EXPECT_EQ(heap.live(&damaged), 62U);
  EXPECT_EQ(damaged, 1U);
}

TEST(HeapImage, AThreadsListThatBitesItsTailOrLeavesTheHeapEnds) {
  FakeHeap heap;
  heap.put<uint64_t>(FakeHeap::kSlots + 16, FakeHeap::object(3));
  heap.put<uint64_t>(FakeHeap::object(3), FakeHeap::object(3));
  heap.put<uint64_t>(FakeHeap::kSlots + 32, FakeHeap::object(4) + 8);
  heap.put<uint64_t>(FakeHeap::kSlots + 48, 0xdeadbeef000);
  uint64_t damaged = 0;
  EXPECT_EQ(heap.live(&damaged), 63U);
  EXPECT_EQ(damaged, 3U);
}

TEST(HeapImage, RecordsThatContradictThemselvesAreLeftOut) {
  FakeHeap more_than_capacity;
  more_than_capacity.set_word(0, 0, 65);
  EXPECT_EQ(more_than_capacity.live(), 0U);
  FakeHeap elsewhere;
  elsewhere.put<uint64_t>(FakeHeap::kSlab + 16, FakeHeap::kWindow + 4096);
  EXPECT_EQ(elsewhere.live(), 0U);
  FakeHeap no_size;
  no_size.put<uint32_t>(FakeHeap::kCache + 4, 0);
  EXPECT_EQ(no_size.live(), 0U);
}

TEST(HeapImage, LayoutsAndTablesWithoutMeasureAreRefused) {
  FakeHeap window;
  window.put<uint64_t>(FakeHeap::kBase + 8, UINT64_MAX);
  EXPECT_EQ(window.live(), UINT64_MAX);
  FakeHeap huge;
  huge.put<uint64_t>(FakeHeap::kBase + 48, UINT64_MAX);
  EXPECT_EQ(huge.live(), UINT64_MAX);
  FakeHeap shift;
  shift.layout.chunk_shift = 63;
  EXPECT_EQ(shift.live(), UINT64_MAX);
  FakeHeap blocks;
  blocks.put<uint32_t>(FakeHeap::kBase + 32, UINT32_MAX);
  EXPECT_EQ(blocks.live(), UINT64_MAX);
}

}  // namespace
}  // namespace slabscope
