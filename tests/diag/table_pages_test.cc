// SPDX-License-Identifier: MIT

#include "diag/table_pages.h"

#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "diag/cfi_object.h"

namespace slabscope::diag {
namespace {

constexpr size_t kPage = 4096;

// Pages of one mapping, or of several side by side.
class Pages {
 public:
  explicit Pages(size_t count) : count_(count) {
    base_ = static_cast<char*>(
        mmap(nullptr, count * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    memset(base_, 'x', count * kPage);
  }
  ~Pages() { munmap(base_, count_ * kPage); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  // From `first` on: a file whose bytes are `content`, mapped like a library's constants.
  void put_file(size_t first, const std::vector<char>& content) {
    const int fd = memfd_create("table_pages", MFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    void* at = base_ + first * kPage;
    ASSERT_EQ(mmap(at, content.size(), PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0), at);
    close(fd);
  }

  [[nodiscard]] uintptr_t low() const { return reinterpret_cast<uintptr_t>(base_); }
  [[nodiscard]] char* page(size_t index) const { return base_ + index * kPage; }
  [[nodiscard]] ByteRange range(size_t first, size_t end) const {
    return {low() + first * kPage, low() + end * kPage};
  }

 private:
  size_t count_;
  char* base_;
};

const std::vector<char> kOnePage(kPage, 'f');

TEST(TablePages, MemoryOfFilesIsTold) {
  Pages pages(3);
  for (size_t i = 0; i < 3; ++i)
    pages.put_file(i, kOnePage);
  EXPECT_TRUE(are_of_files(pages.range(0, 3)));
  EXPECT_TRUE(are_of_files({}));
}

TEST(TablePages, MemoryOfNoFileIsTold) {
  const Pages pages(3);
  EXPECT_FALSE(are_of_files(pages.range(0, 3)));
}

TEST(TablePages, MemoryOfNoFileAtEitherEndIsTold) {
  Pages first(3);
  first.put_file(1, kOnePage);
  first.put_file(2, kOnePage);
  EXPECT_FALSE(are_of_files(first.range(0, 3)));
  Pages last(3);
  last.put_file(0, kOnePage);
  last.put_file(1, kOnePage);
  EXPECT_FALSE(are_of_files(last.range(0, 3)));
}

TEST(TablePages, AskingChangesNothingForTheProgramOrItsChildren) {
  const Pages pages(2);
  EXPECT_FALSE(are_of_files(pages.range(0, 2)));
  EXPECT_EQ(*pages.page(1), 'x');
  const pid_t child = fork();
  if (child == 0)
    _exit(*pages.page(0) == 'x' && *pages.page(1) == 'x' ? 0 : 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// ---- which pages ----------------------------------------------------------------------------

constexpr int32_t kFramesField = 4;

// An index at `at` in its file, whose .eh_frame lies `frames` bytes from it.
std::vector<char> file_with_index(size_t bytes, size_t at, int32_t frames, uint32_t count) {
  std::vector<char> content(bytes, 'c');
  const std::array<uint8_t, 4> encodings = {1, 0x1b, 0x03, 0x3b};
  frames -= kFramesField;
  memcpy(content.data() + at, encodings.data(), encodings.size());
  memcpy(content.data() + at + kFramesField, &frames, sizeof frames);
  memcpy(content.data() + at + 8, &count, sizeof count);
  return content;
}

class Object {
 public:
  explicit Object(const Pages& pages, size_t count, size_t index) {
    map_.l_ld = dynamic_.data();
    object_.mapping = segment_.bytes = pages.range(0, count);
    object_.index = pages.low() + index;
    object_.loaded = &map_;
    segment_.flags = PF_R;
  }
  void set_dynamic(int64_t tag, uint64_t value) {
    dynamic_[0].d_tag = tag;
    dynamic_[0].d_un.d_val = value;
  }
  void set_flags(uint32_t flags) { segment_.flags = flags; }
  [[nodiscard]] TablePages returnable() const { return returnable_pages(object_, segment_); }
  void read() const { tables_were_read(object_, segment_); }

 private:
  std::array<ElfW(Dyn), 2> dynamic_{};
  link_map map_{};
  CfiObject object_;
  CfiSegment segment_;
};

void expect_none(const TablePages& pages) {
  EXPECT_EQ(pages.before.low, pages.before.high);
  EXPECT_EQ(pages.after.low, pages.after.high);
}

void expect_range(ByteRange range, ByteRange expected) {
  EXPECT_EQ(range.low, expected.low);
  EXPECT_EQ(range.high, expected.high);
}

constexpr size_t kCount = 8;
constexpr size_t kIndexAt = 2 * kPage + 100;
constexpr uint32_t kFunctions = 600;  // more than one page of index

// An object as GNU ld makes it, with a third of its pages before its index.
struct Library {
  Library() { pages.put_file(0, file_with_index(kCount * kPage, kIndexAt, 5000, kFunctions)); }

  Pages pages{kCount};
  Object object{pages, kCount, kIndexAt};
};

TEST(TablePages, BehindTheFirstPageOfTheIndexToTheEnd) {
  Library library;
  const TablePages found = library.object.returnable();
  expect_range(found.after, library.pages.range(3, kCount));
  EXPECT_EQ(found.before.low, found.before.high);
}

TEST(TablePages, FramesBeforeTheIndexAndWhatIsWithinIt) {
  Pages pages(kCount);
  const size_t index = 4 * kPage + 100;
  pages.put_file(
      0, file_with_index(kCount * kPage, index, -static_cast<int32_t>(3 * kPage), 2 * kPage / 8));
  Object object(pages, kCount, index);
  object.set_flags(PF_R | PF_X);
  const TablePages found = object.returnable();
  expect_range(found.before, pages.range(2, 4));
  expect_range(found.after, pages.range(5, 6));
}

TEST(TablePages, NoneWhereCodeMayFollow) {
  Library library;
  library.object.set_flags(PF_R | PF_X);
  expect_none(library.object.returnable());
}

TEST(TablePages, NoneOfSegmentsThatAreWritableOrUnknown) {
  Library library;
  library.object.set_flags(PF_R | PF_W);
  expect_none(library.object.returnable());
  library.object.set_flags(0);
  expect_none(library.object.returnable());
}

TEST(TablePages, NoneOfObjectsWithTextRelocations) {
  Library library;
  library.object.set_dynamic(DT_TEXTREL, 0);
  expect_none(library.object.returnable());
  library.object.set_dynamic(DT_FLAGS, DF_TEXTREL);
  expect_none(library.object.returnable());
  library.object.set_dynamic(DT_FLAGS, DF_BIND_NOW);
  EXPECT_NE(library.object.returnable().after.high, 0U);
}

TEST(TablePages, NoneWhereTheFileWasReplacedByOtherMemory) {
  Pages pages(kCount);
  std::vector<char> content = file_with_index(kCount * kPage, kIndexAt, 5000, kFunctions);
  memcpy(pages.page(0), content.data(), content.size());
  expect_none(Object(pages, kCount, kIndexAt).returnable());
  content.resize(kCount / 2 * kPage);
  pages.put_file(0, content);  // its first half alone is the file's
  expect_none(Object(pages, kCount, kIndexAt).returnable());
}

TEST(TablePages, NoneOfAnIndexThatReachesOutside) {
  Pages pages(kCount);
  pages.put_file(0, file_with_index(kCount * kPage, kIndexAt, 5000, UINT32_MAX));
  expect_none(Object(pages, kCount, kIndexAt).returnable());
  pages.put_file(0, file_with_index(kCount * kPage, kIndexAt, kCount * kPage, kFunctions));
  expect_none(Object(pages, kCount, kIndexAt).returnable());
}

// ---- giving back ----------------------------------------------------------------------------

size_t resident_pages(const Pages& pages, size_t count) {
  const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  std::vector<uint64_t> entries(count);
  EXPECT_EQ(pread(fd, entries.data(), count * 8, static_cast<off_t>(pages.low() / kPage * 8)),
            static_cast<ssize_t>(count * 8));
  close(fd);
  size_t resident = 0;
  for (const uint64_t entry : entries)
    resident += entry >> 63U;
  return resident;
}

uint64_t sum_of(const Pages& pages) {
  uint64_t sum = 0;
  for (size_t i = 0; i < kCount * kPage; ++i)
    sum = sum * 31 + static_cast<uint64_t>(*static_cast<volatile char*>(pages.page(0) + i));
  return sum;
}

TEST(TablePages, GoBackAndCanBeReadAgain) {
  Library library;
  const uint64_t before = sum_of(library.pages);
  ASSERT_EQ(resident_pages(library.pages, kCount), kCount);
  library.object.read();
  EXPECT_EQ(resident_pages(library.pages, kCount), 3U);
  EXPECT_EQ(sum_of(library.pages), before);
}

TEST(TablePages, StayWhileTheyAreAllowed) {
  Library library;
  static_cast<void>(sum_of(library.pages));
  allow_table_bytes(size_t{1} << 30);
  library.object.read();
  EXPECT_EQ(resident_pages(library.pages, kCount), kCount);
  allow_table_bytes(0);
}

TEST(TablePages, TheFirstReadsGoBackAtOnce) {
  Library library;
  for (unsigned i = 0; i < 16; ++i) {
    static_cast<void>(sum_of(library.pages));
    library.object.read();
    EXPECT_LT(resident_pages(library.pages, kCount), kCount) << i;
  }
}

TEST(TablePages, GoBackLessOftenTheMoreOftenTheyDid) {
  Library library;
  unsigned returns = 0;
  for (unsigned i = 0; i < 800; ++i) {
    static_cast<void>(sum_of(library.pages));
    library.object.read();
    returns += resident_pages(library.pages, kCount) < kCount ? 1U : 0U;
  }
  EXPECT_GT(returns, 70U);  // 16 + sqrt(8 * 800)
  EXPECT_LT(returns, 110U);
}

}  // namespace
}  // namespace slabscope::diag
