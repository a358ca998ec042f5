// SPDX-License-Identifier: MIT

#include "diag/page_set.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

#include "diag/memory_probe.h"

namespace slabscope::diag {
namespace {

using Runs = std::vector<std::pair<size_t, size_t>>;

template <size_t kPages>
Runs runs_of(const PageSet<kPages>& pages, size_t begin, size_t end) {
  Runs runs;
  pages.for_each_run(begin, end,
                     [&](size_t first, size_t count) { runs.emplace_back(first, count); });
  return runs;
}

TEST(PageSet, RunsAreWhatWasAdded) {
  PageSet<300> pages;
  EXPECT_TRUE(runs_of(pages, 0, 300).empty());
  EXPECT_EQ(pages.add(0, 1), 1u);
  EXPECT_EQ(pages.add(60, 10), 10u);
  EXPECT_EQ(pages.add(65, 10), 5u);
  EXPECT_EQ(pages.add(299, 1), 1u);
  EXPECT_EQ(runs_of(pages, 0, 300), (Runs{{0, 1}, {60, 15}, {299, 1}}));
  EXPECT_EQ(runs_of(pages, 64, 70), (Runs{{64, 6}}));
  EXPECT_TRUE(pages.has(60 * 4096, 15 * 4096));
  EXPECT_FALSE(pages.has(60 * 4096, 15 * 4096 + 1));
  EXPECT_FALSE(pages.has(299 * 4096, 8192)) << "beyond the end";
  pages.remove_from(63);
  EXPECT_EQ(runs_of(pages, 0, 300), (Runs{{0, 1}, {60, 3}}));
  pages.clear();
  EXPECT_TRUE(runs_of(pages, 0, 300).empty());
}

TEST(MakePresent, BothWaysKeepContentsAndStopAtTheEndOfTheFile) {
  const int fd = memfd_create("probe", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(fd, 2 * 4096), 0);
  void* area = mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ASSERT_NE(area, MAP_FAILED);
  auto* bytes = static_cast<char*>(area);
  EXPECT_TRUE(make_present_by_futex(bytes, 2 * 4096));
  strcpy(bytes + 4096, "still here");
  EXPECT_TRUE(make_present_by_futex(bytes, 2 * 4096));
  EXPECT_TRUE(make_present(bytes, 2 * 4096));
  EXPECT_STREQ(bytes + 4096, "still here");
  EXPECT_FALSE(make_present(bytes, 3 * 4096));
  EXPECT_FALSE(make_present_by_futex(bytes + 2 * 4096, 4096));
  munmap(area, 3 * 4096);
  close(fd);
}

}  // namespace
}  // namespace slabscope::diag
