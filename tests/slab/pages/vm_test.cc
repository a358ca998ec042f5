// SPDX-License-Identifier: MIT

#include "slab/pages/vm.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

constexpr size_t kBytes = 16 * vm::kOsPage;

bool all_zero(const char* memory, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    if (memory[i] != 0)
      return false;
  }
  return true;
}

TEST(Vm, FreshMemoryIsZeroAndWritable) {
  auto* memory = static_cast<char*>(vm::map(kBytes));
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % vm::kOsPage, 0U);
  EXPECT_TRUE(all_zero(memory, kBytes));
  memory[kBytes - 1] = 'x';
  vm::unmap(memory, kBytes);
}

TEST(Vm, ImpossibleSizesAreRefusedNotFatal) {
  EXPECT_EQ(vm::map(size_t{1} << 60), nullptr);
  EXPECT_EQ(vm::reserve_readable(size_t{1} << 60), nullptr);
  EXPECT_EQ(vm::map(0), nullptr);
}

TEST(Vm, MapAtTakesExactlyThatPlaceAndNeverAnOccupiedOne) {
  auto* memory = static_cast<char*>(vm::map(kBytes));
  ASSERT_NE(memory, nullptr);
  memory[0] = 'x';
  EXPECT_FALSE(vm::map_at(memory, kBytes));
  EXPECT_FALSE(vm::map_at(memory - vm::kOsPage, kBytes));
  EXPECT_EQ(memory[0], 'x');
  vm::unmap(memory, kBytes);
  ASSERT_TRUE(vm::map_at(memory, kBytes));
  EXPECT_EQ(memory[0], 0);
  vm::unmap(memory, kBytes);
}

TEST(Vm, ReservedSpaceReadsAsZeroesAndIsWritableOnlyAfterwards) {
  auto* memory = static_cast<char*>(vm::reserve_readable(kBytes));
  ASSERT_NE(memory, nullptr);
  EXPECT_TRUE(all_zero(memory, kBytes));
  EXPECT_EQ(testing::in_child([memory] {
              signal(SIGSEGV, SIG_DFL);
              *static_cast<volatile char*>(memory) = 'x';
              return 0;
            }),
            -SIGSEGV);
  ASSERT_TRUE(vm::make_writable(memory + vm::kOsPage, vm::kOsPage));
  memory[vm::kOsPage] = 'x';
  EXPECT_EQ(memory[vm::kOsPage], 'x');
  vm::unmap(memory, kBytes);
  EXPECT_FALSE(vm::make_writable(reinterpret_cast<void*>(uintptr_t{1} << 60), kBytes));
}

TEST(Vm, PurgedPagesReadAsZeroesAndTheirNeighboursDoNot) {
  auto* memory = static_cast<char*>(vm::map(kBytes));
  ASSERT_NE(memory, nullptr);
  std::memset(memory, 'x', kBytes);
  ASSERT_TRUE(vm::purge(memory + vm::kOsPage, 2 * vm::kOsPage));
  EXPECT_EQ(memory[vm::kOsPage - 1], 'x');
  EXPECT_TRUE(all_zero(memory + vm::kOsPage, 2 * vm::kOsPage));
  EXPECT_EQ(memory[3 * vm::kOsPage], 'x');
  vm::unmap(memory, kBytes);
}

TEST(Vm, ARefusedPurgeSaysSoAndKeepsTheContents) {
  auto* memory = static_cast<char*>(vm::map(kBytes));
  ASSERT_NE(memory, nullptr);
  memory[0] = 'x';
  ASSERT_EQ(syscall(SYS_mlock, memory, vm::kOsPage), 0);  // the kernel does not drop locked pages
  EXPECT_FALSE(vm::purge(memory, vm::kOsPage));
  EXPECT_EQ(memory[0], 'x');
  vm::unmap(memory, kBytes);
}

TEST(Vm, RemapKeepsWhatFitsAndZeroesWhatIsNew) {
  auto* memory = static_cast<char*>(vm::map(kBytes));
  ASSERT_NE(memory, nullptr);
  std::memset(memory, 'x', kBytes);
  auto* grown = static_cast<char*>(vm::remap(memory, kBytes, 64 * kBytes));
  ASSERT_NE(grown, nullptr);
  EXPECT_EQ(grown[0], 'x');
  EXPECT_EQ(grown[kBytes - 1], 'x');
  EXPECT_TRUE(all_zero(grown + kBytes, 63 * kBytes));
  EXPECT_EQ(vm::remap(grown, 64 * kBytes, size_t{1} << 60), nullptr);
  EXPECT_EQ(grown[0], 'x');
  auto* shrunk = static_cast<char*>(vm::remap(grown, 64 * kBytes, vm::kOsPage));
  ASSERT_EQ(shrunk, grown);
  EXPECT_EQ(shrunk[vm::kOsPage - 1], 'x');
  vm::unmap(shrunk, vm::kOsPage);
}

TEST(Vm, MovedPagesLeaveZeroesBehindAndDropWhatWasThere) {
  auto* from = static_cast<char*>(vm::map(kBytes));
  auto* to = static_cast<char*>(vm::map(kBytes));
  ASSERT_TRUE(from != nullptr && to != nullptr);
  std::memset(from, 'x', kBytes);
  std::memset(to, 'y', kBytes);
  if (!vm::move_pages(from, to, kBytes / 2))
    GTEST_SKIP() << "a kernel before 5.7";
  EXPECT_TRUE(all_zero(from, kBytes / 2));
  EXPECT_EQ(from[kBytes / 2], 'x');
  EXPECT_EQ(to[0], 'x');
  EXPECT_EQ(to[kBytes / 2 - 1], 'x');
  EXPECT_EQ(to[kBytes / 2], 'y');
  from[0] = 'z';  // still mapped
  EXPECT_EQ(to[0], 'x');
  vm::unmap(from, kBytes);
  vm::unmap(to, kBytes);
}

TEST(Vm, KnowsTheLimitOnAddressSpace) {
  EXPECT_EQ(testing::in_child([] {
              rlimit limit{};
              getrlimit(RLIMIT_AS, &limit);
              if (limit.rlim_max == RLIM_INFINITY) {
                limit.rlim_cur = RLIM_INFINITY;
                setrlimit(RLIMIT_AS, &limit);
                if (vm::address_space_limit() != SIZE_MAX)
                  return 1;
              }
              limit.rlim_cur = size_t{1} << 45;
              setrlimit(RLIMIT_AS, &limit);
              return vm::address_space_limit() == size_t{1} << 45 ? 0 : 2;
            }),
            0);
}

}  // namespace
}  // namespace slabscope
