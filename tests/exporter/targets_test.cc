// SPDX-License-Identifier: MIT

#include "exporter/source/targets.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScopeFile;
using testing::ScratchDirectory;
using testing::SegmentBuilder;

// Makes $SLABSCOPE_DIR the scratch directory for the length of a test.
class Targets : public ::testing::Test {
 protected:
  void SetUp() override { setenv("SLABSCOPE_DIR", scratch_.path().c_str(), 1); }
  void TearDown() override { unsetenv("SLABSCOPE_DIR"); }

  ScopeFile process(uint32_t pid, std::string_view comm, uint64_t start_ns = 1000) {
    return SegmentBuilder().pid(pid).comm(comm).start(start_ns).write(
        scratch_, std::to_string(start_ns) + "-" + std::to_string(pid) + "-1.scope");
  }
  std::vector<FoundTarget> found() { return find_targets({scratch_.path()}); }

  ScratchDirectory scratch_;
};

// Pids no real process has.
constexpr uint32_t kPid = 4'000'000'001;

TEST_F(Targets, DirectoriesComeInTheShimsOrder) {
  const std::vector<std::string> directories = target_directories();
  ASSERT_GE(directories.size(), 3u);
  EXPECT_EQ(directories[0], scratch_.path());
  EXPECT_EQ(directories[1], "/run/slabscope");
}

TEST_F(Targets, ListsNewestFirstAndUnreadableLast) {
  const ScopeFile old = process(kPid, "old", 10);
  const ScopeFile young = process(kPid + 1, "young", 20);
  ScopeFile broken(scratch_.file("broken.scope"));
  broken.write(0, "nonsense!", 9);
  const ScopeFile other(scratch_.file("readme.txt"));
  const std::vector<FoundTarget> targets = found();
  ASSERT_EQ(targets.size(), 3u);
  EXPECT_EQ(targets[0].info->comm, "young");
  EXPECT_EQ(targets[1].info->comm, "old");
  EXPECT_EQ(targets[2].failure->code, ErrorCode::kBadMagic);
}

TEST_F(Targets, OneFileUnderTwoNamesCountsOnce) {
  const ScopeFile file = process(kPid, "demo");
  const std::string again = scratch_.file("again.scope");
  ASSERT_EQ(link(file.path().c_str(), again.c_str()), 0);
  EXPECT_EQ(found().size(), 1u);
  EXPECT_EQ(find_targets({scratch_.path(), scratch_.path() + "/."}).size(), 1u);
}

TEST_F(Targets, SymbolicLinksAreNotFollowed) {
  const ScopeFile file = process(kPid, "demo");
  const std::string again = scratch_.file("link.scope");
  ASSERT_EQ(symlink(file.path().c_str(), again.c_str()), 0);
  EXPECT_EQ(found().size(), 1u);
}

TEST_F(Targets, ADeadFileWhosePidCameBackWasReplaced) {
  const ScopeFile before = process(kPid, "sh", 10);
  ScopeFile after = process(kPid, "server", 20);
  after.lock();
  const std::vector<FoundTarget> targets = found();
  EXPECT_EQ(targets[0].info->state, TargetState::kRunning);
  EXPECT_EQ(targets[1].info->state, TargetState::kReplaced);
}

TEST_F(Targets, APidMeansItsNewestFile) {
  const ScopeFile before = process(kPid, "sh", 10);
  const ScopeFile after = process(kPid, "server", 20);
  EXPECT_EQ(resolve_target(std::to_string(kPid))->comm, "server");
  EXPECT_EQ(newest_of_pid(kPid, 15)->comm, "server");
  EXPECT_FALSE(newest_of_pid(kPid, 21));
}

// A file that this process has mapped for as long as one lives.
class Mapped {
 public:
  explicit Mapped(const ScopeFile& file) {
    const int fd = open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
    memory_ = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
  }
  ~Mapped() { munmap(memory_, kBytes); }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;

 private:
  static constexpr size_t kBytes = 4096;
  void* memory_;
};

TEST_F(Targets, ALivePidMeansTheFileThatItHasMappedWhereverThatLies) {
  const auto pid = static_cast<uint32_t>(getpid());
  ScratchDirectory elsewhere;
  const ScopeFile mapped = SegmentBuilder().pid(pid).comm("mapped").write(elsewhere, "a.scope");
  const ScopeFile others = SegmentBuilder().pid(kPid).comm("others").write(elsewhere, "b.scope");
  // The newest, whatever a process of that pid left in the directories of this machine.
  const ScopeFile listed = process(pid, "listed", uint64_t{1} << 62);
  EXPECT_EQ(resolve_target(std::to_string(pid))->comm, "listed");
  const Mapped not_ours(others);
  EXPECT_EQ(resolve_target(std::to_string(pid))->comm, "listed");
  const Mapped ours(mapped);
  EXPECT_EQ(resolve_target(std::to_string(pid))->comm, "mapped");
}

TEST_F(Targets, WhatCannotBeReadIsNamedWhereNothingFits) {
  ScopeFile broken(scratch_.file("broken.scope"));
  broken.write(0, "nonsense!", 9);
  const Result<TargetInfo> none = resolve_target(std::to_string(kPid));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.failure().code, ErrorCode::kNotFound);
  EXPECT_NE(none.failure().message.find("files that cannot be read: "), std::string::npos);
  EXPECT_NE(none.failure().message.find(".scope: "), std::string::npos);
}

TEST_F(Targets, APathNamesItsFile) {
  const ScopeFile file = process(kPid, "demo");
  EXPECT_EQ(resolve_target(file.path())->pid, kPid);
  EXPECT_EQ(resolve_target("/nonexistent/x.scope").failure().code, ErrorCode::kNotFound);
}

TEST_F(Targets, PartOfANameIsEnoughWhenItIsUnique) {
  const ScopeFile one = process(kPid, "uncommon-one");
  const ScopeFile two = process(kPid + 1, "uncommon-two");
  EXPECT_EQ(resolve_target("common-tw")->pid, kPid + 1);
  const Result<TargetInfo> both = resolve_target("uncommon");
  ASSERT_FALSE(both);
  EXPECT_EQ(both.failure().code, ErrorCode::kAmbiguous);
  EXPECT_NE(both.failure().message.find("uncommon-two"), std::string::npos);
  EXPECT_EQ(resolve_target("no-such-name-anywhere").failure().code, ErrorCode::kNotFound);
  EXPECT_FALSE(resolve_target(""));
}

TEST_F(Targets, TheLivingWinOverTheDeadOfTheirName) {
  const ScopeFile dead = process(kPid, "uncommon", 10);
  ScopeFile alive = process(kPid + 1, "uncommon", 20);
  alive.lock();
  EXPECT_EQ(resolve_target("uncommon")->pid, kPid + 1);
}

TEST_F(Targets, AWholeNameWinsOverNamesThatHoldIt) {
  ScopeFile plain = process(kPid, "uncommon", 10);
  ScopeFile longer = process(kPid + 1, "uncommon-two", 20);
  plain.lock();
  longer.lock();
  EXPECT_EQ(resolve_target("uncommon")->pid, kPid);
  const ScopeFile dead = process(kPid + 2, "common", 30);
  EXPECT_EQ(resolve_target("common")->pid, kPid + 2);
  ScopeFile again = process(kPid + 3, "uncommon", 40);
  again.lock();
  EXPECT_EQ(resolve_target("uncommon").failure().code, ErrorCode::kAmbiguous);
}

TEST_F(Targets, OfSeveralDeadRunsOfOneProgramTheNewestIsMeant) {
  const ScopeFile first = process(kPid, "uncommon", 10);
  const ScopeFile second = process(kPid + 1, "uncommon", 20);
  EXPECT_EQ(resolve_target("uncommon")->pid, kPid + 1);
}

}  // namespace
}  // namespace slabscope
