// SPDX-License-Identifier: MIT

#include <sys/file.h>
#include <sys/stat.h>

#include <ctime>

#include "diag/scope_dir.h"
#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

class StaleFilesTest : public testing::ScopeFixture {
 protected:
  std::string make(const std::string& name, long age_seconds, mode_t mode = 0600) {
    const std::string path = directory_ + "/" + name;
    const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    fchmod(fd, mode);
    const timespec when{time(nullptr) - age_seconds, 0};
    const timespec times[2] = {when, when};
    futimens(fd, times);
    close(fd);
    return path;
  }
  unsigned sweep() { return remove_stale_files(directory_.c_str()); }
  static bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }
};

TEST_F(StaleFilesTest, ADeadFileIsMarkedFirstAndRemovedLater) {
  const std::string path = make("1-2-3.scope", 100000);
  EXPECT_EQ(sweep(), 0u);
  struct stat status {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0400u);
  EXPECT_LT(time(nullptr) - status.st_mtim.tv_sec, 10);
  EXPECT_EQ(sweep(), 0u);
  make("1-2-3.scope", 700, 0400);
  EXPECT_EQ(sweep(), 1u);
  EXPECT_FALSE(exists(path));
}

TEST_F(StaleFilesTest, TheLivingTheYoungAndTheStrangersStay) {
  const std::string living = make("1-2-3.scope", 100000, 0400);
  const int fd = open(living.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  const std::string young = make("1-2-4.scope", 1);
  const std::string stranger = make("notes.txt", 100000, 0400);
  std::filesystem::create_symlink(stranger, directory_ + "/1-2-5.scope");
  EXPECT_EQ(sweep(), 0u);
  EXPECT_TRUE(exists(living) && exists(young) && exists(stranger));
  struct stat status {};
  ASSERT_EQ(stat(young.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  close(fd);
}

TEST_F(StaleFilesTest, FilesOfOthersStay) {
  const std::string path = make("1-2-3.scope", 100000, 0400);
  if (chown(path.c_str(), 12345, 12345) != 0)
    GTEST_SKIP() << "needs root";
  EXPECT_EQ(sweep(), 0u);
}

TEST_F(StaleFilesTest, ACrowdIsClearedABoundedNumberAtATime) {
  for (int i = 0; i < 600; ++i)
    make(std::to_string(i) + "-2-3.scope", 100);
  const unsigned removed = sweep();
  EXPECT_GT(removed, 0u);
  EXPECT_LE(removed, 64u);
  EXPECT_EQ(names().size(), 600u - removed);
}

TEST_F(StaleFilesTest, AHalfWrittenFileOfADeadProcessGoesToo) {
  make(".00ff.tmp", 700, 0400);
  EXPECT_EQ(sweep(), 1u);
}

}  // namespace
}  // namespace slabscope::diag
