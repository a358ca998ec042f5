// SPDX-License-Identifier: MIT
//
// Roots on a process of which every pointer is known: one kind of root, or of memory that is none,
// a test.

#include "exporter/analysis/roots.h"

#include <elf.h>
#include <gtest/gtest.h>

#include "tests/exporter/fake_process.h"

namespace slabscope {
namespace {

using testing::kData;
using testing::kGuarded;
using testing::kMapped;
using testing::kModule;
using testing::kModuleStorage;
using testing::kPage;
using testing::kStack;
using testing::kStackPointer;
using testing::kStorage;
using testing::kThreadPointer;
using testing::Process;

TEST(Roots, ARegisterIsOne) {
  Process process(1);
  process.in_register(Process::object(0));
  EXPECT_EQ(process.classes(), "R");
}

TEST(Roots, TheStackIsOneFromTheRedZoneUp) {
  Process process(3);
  process.put(kStackPointer - 128, Process::object(0));
  process.put(kStackPointer - 136, Process::object(1));
  process.put(kStack + kPage - 8, Process::object(2));
  EXPECT_EQ(process.classes(RootSet::kModules), "RDR");
  EXPECT_EQ(process.classes(RootSet::kAll), "RDR");
}

TEST(Roots, ModulesDataIsOneAndTheirCodeIsNot) {
  Process process(2);
  process.put(kData + 0x100, Process::object(0));
  process.put(kModule + 0x800, Process::object(1));
  EXPECT_EQ(process.classes(RootSet::kModules), "RD");
}

TEST(Roots, MappedMemoryIsOneUnlessModulesAlone) {
  Process process(1);
  process.put(kMapped, Process::object(0));
  EXPECT_EQ(process.classes(RootSet::kAll), "R");
  EXPECT_EQ(process.classes(RootSet::kModules), "D");
}

TEST(Roots, SharedMemoryIsNone) {
  Process process(1);
  process.put(kMapped, Process::object(0));
  process.share_mapped();
  EXPECT_EQ(process.classes(RootSet::kAll), "D");
}

TEST(Roots, WhatAMappingHoldsEndsWhereItDoes) {
  Process process(2);
  process.main_runs_at(kStack + 8);
  process.put(kStack - 16, Process::object(0));  // in the red zone, but of another mapping
  process.put(kStack, Process::object(1));
  EXPECT_EQ(process.classes(RootSet::kModules), "DR");
}

// ---- the allocator's own ----------------------------------------------------------------------

TEST(Roots, TheAllocatorsTablesLeadNowhere) {
  Process process(2);
  constexpr uint64_t kTable = kMapped + 0x100;
  process.layout.own[1] = {kMapped, kMapped + 8, sizeof(uint64_t), 16, 1, 0};
  process.put(kMapped, kTable);
  process.put<uint64_t>(kMapped + 8, 32);  // 32 units of 16 bytes, halved: 256 bytes
  process.put(kTable + 0xf8, Process::object(0));
  process.put(kTable + 0x100, Process::object(1));
  EXPECT_EQ(process.classes(RootSet::kAll), "DR");
}

TEST(Roots, ThreadsListsLeadNowhere) {
  Process process(3);
  constexpr uint64_t kSlots = kMapped + 0x100;
  process.layout.block_bytes = 0x200;
  process.layout.id_limit = 2;
  process.put(Process::kBase + 24, kSlots);
  process.put(kSlots + 16, Process::object(2));  // on the list, so it is free
  process.put(kSlots + 0x1f8, Process::object(0));
  process.put(kSlots + 0x200, Process::object(1));
  EXPECT_EQ(process.classes(RootSet::kAll), "DR");
}

TEST(Roots, FreedMappingsThatAreKeptLeadNowhere) {
  Process process(2);
  process.layout.cached_at = Process::kBase + 0x800;
  process.layout.cached_entries = 2;
  process.layout.cached_entry_bytes = 16;
  process.layout.cached_size = 8;
  process.put(Process::kBase + 0x810, kMapped + 0x100);
  process.put<uint64_t>(Process::kBase + 0x818, 0x80);
  process.put(kMapped + 0x178, Process::object(0));
  process.put(kMapped + 0x180, Process::object(1));
  EXPECT_EQ(process.classes(RootSet::kAll), "DR");
}

TEST(Roots, BlocksOfMetadataLeadNowhere) {
  Process process(3);
  constexpr uint64_t kNewest = kMapped + 0x100;
  constexpr uint64_t kOlder = kMapped + 0x400;
  process.layout.meta_head_at = Process::kBase + 0x800;
  process.put(Process::kBase + 0x800, kNewest);
  process.put(kNewest, kOlder);
  process.put<uint64_t>(kNewest + 8, 0x80);
  process.put<uint64_t>(kOlder + 8, 0x40);
  process.put(kNewest + 0x78, Process::object(0));
  process.put(kOlder + 0x38, Process::object(1));
  process.put(kOlder + 0x40, Process::object(2));
  EXPECT_EQ(process.classes(RootSet::kAll), "DDR");
}

TEST(Roots, TheShimsDataLeadsNowhere) {
  Process process(1);
  constexpr uint64_t kVariable = kData + 0x800;
  process.layout.window_base_at = kVariable;  // so the module is the shim
  process.put(kVariable, Process::kWindow);
  process.put(kData + 0x900, Process::object(0));
  EXPECT_EQ(process.classes(RootSet::kAll), "D");
}

TEST(Roots, TheUnwindersDataLeadsNowhere) {
  Process process(1);
  process.put(kData + 0x900, Process::object(0));
  process.module_is("/usr/lib/x86_64-linux-gnu/libunwind.so.8.0.1");
  EXPECT_EQ(process.classes(RootSet::kAll), "D");
}

TEST(Roots, FreeObjectsLeadNowhere) {
  Process process(3);
  process.set_word(1, 1, 3);  // object 0 is free
  process.put<uint64_t>(Process::object(0), 0);
  process.put(Process::object(0) + 16, Process::object(1));
  process.put(kStackPointer, Process::object(0));
  EXPECT_EQ(process.classes(), "DD");
}

TEST(Roots, FreeObjectsAreNotLost) {
  Process process(3);
  process.set_word(1, 1, 3);
  process.points(1, Process::object(0));
  EXPECT_EQ(process.classes(), "DD");
}

// ---- threads ----------------------------------------------------------------------------------

TEST(Roots, StorageOfTheMainThreadIsOneAndMemoryJoinedToItIsNot) {
  Process process(4);
  process.put(kThreadPointer - kModuleStorage - 0x400, Process::object(0));
  process.put(kThreadPointer + 0x800, Process::object(1));  // in the thread block
  process.put(kStorage + 8, Process::object(2));
  process.put(kStorage + 5 * kPage - 8, Process::object(3));
  EXPECT_EQ(process.classes(RootSet::kModules), "RRDD");
  EXPECT_EQ(process.classes(RootSet::kAll), "RRRR") << "joined memory is mapped memory";
}

TEST(Roots, StorageIsAsLargeAsThatOfAllModules) {
  Process process(1);
  process.put(kThreadPointer - kModuleStorage - 2048, Process::object(0));
  EXPECT_EQ(process.classes(RootSet::kModules), "R");
}

TEST(Roots, TheVectorOfStorageLoadedLaterIsOne) {
  Process process(3);
  const uint64_t vector = kMapped + 0x100;
  process.put(kThreadPointer + 8, vector);
  process.put<uint64_t>(vector - 16, 2);  // modules
  process.put(vector + 16, Process::object(0));
  process.put(vector + 32, Process::object(1));
  process.put(vector + 48, Process::object(2));
  EXPECT_EQ(process.classes(RootSet::kModules), "RRD");
}

TEST(Roots, AThreadHasItsStackUpToItsBlock) {
  Process process(4);
  process.add_thread(kGuarded + 0x800, kGuarded + kPage + 0x700);
  process.put(kGuarded + 8, Process::object(0));  // below the stack pointer
  process.put(kGuarded + 0x800, Process::object(1));
  process.put(kGuarded + kPage + 0xff8, Process::object(2));
  process.put(kGuarded + 2 * kPage, Process::object(3));  // joined
  EXPECT_EQ(process.classes(RootSet::kModules), "DRRD");
  EXPECT_EQ(process.classes(RootSet::kAll), "DRRR");
}

TEST(Roots, AThreadThatRunsElsewhereReturnsToItsStack) {
  Process process(3);
  process.add_thread(kMapped + 0x800, kGuarded + kPage + 0x700);
  process.put(kMapped + 0x900, Process::object(0));
  process.put(kGuarded + 8, Process::object(1));
  process.put(kGuarded + 3 * kPage, Process::object(2));
  EXPECT_EQ(process.classes(RootSet::kModules), "RRD");
}

TEST(Roots, TheMainThreadThatRunsElsewhereReturnsToItsStack) {
  Process process(2);
  process.main_runs_at(kMapped + 0x800);
  process.put(kStack + 8, Process::object(0));
  process.put(kMapped + 0x900, Process::object(1));
  EXPECT_EQ(process.classes(RootSet::kModules), "RR");
  EXPECT_EQ(process.classes(RootSet::kAll), "RR");
}

TEST(Roots, WithoutAGuardMemoryBelowAStackPointerMayBeAnothers) {
  Process process(1);
  process.main_runs_at(kMapped + 0x800);
  process.put(kMapped + 8, Process::object(0));
  EXPECT_EQ(process.classes(RootSet::kModules), "D");
  EXPECT_EQ(process.classes(RootSet::kAll), "R");
}

TEST(Roots, TwoThreadsInOneMappingLeaveTheMemoryBelowTheLowerOne) {
  Process process(3);
  process.add_thread(kGuarded + kPage, kThreadPointer);
  process.add_thread(kGuarded + 2 * kPage, kThreadPointer);
  process.put(kGuarded + 8, Process::object(0));
  process.put(kGuarded + kPage, Process::object(1));
  process.put(kGuarded + kPage + 0x800, Process::object(2));
  EXPECT_EQ(process.classes(RootSet::kAll), "DRR");
}

TEST(Roots, OfAnEndedThreadOnlyTheBlocksPointerIsLeft) {
  Process process(3);
  const uint64_t block = kGuarded + 3 * kPage + 0x700;
  process.put(block, block);
  process.put(block + 16, block);
  process.put(block + 8, Process::object(0));
  process.put(kGuarded + 8, Process::object(1));
  process.put(block + 0x100, Process::object(2));
  EXPECT_EQ(process.classes(RootSet::kAll), "RDD");
}

TEST(Roots, MemoryJoinedToTheStackOfAnEndedThreadIsOne) {
  Process process(2);
  const uint64_t block = kGuarded + kPage + 0x700;
  process.put(block, block);
  process.put(block + 16, block);
  process.put(kGuarded + 8, Process::object(0));
  process.put(kGuarded + 2 * kPage, Process::object(1));
  EXPECT_EQ(process.classes(RootSet::kAll), "DR");
}

// ---- the loader -------------------------------------------------------------------------------

TEST(Roots, TheLoadersListLeadsToWhatItKeepsInTheHeap) {
  Process process(3);
  const uint64_t structs = kMapped + 0x200;
  const uint64_t first = kMapped + 0x300;
  process.put(kData, Elf64_Dyn{DT_DEBUG, {structs}});
  process.put(structs + 8, first);
  process.put(first + 24, Process::object(0));  // the next element
  process.put(first + 0x460, Process::object(1));
  process.put(first + 0x500, Process::object(2));
  EXPECT_EQ(process.classes(RootSet::kModules), "RRD");
}

}  // namespace
}  // namespace slabscope
