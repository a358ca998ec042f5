// SPDX-License-Identifier: MIT

#include "diag/scope_file.h"

#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>

#include "slab/base/clock.h"
#include "slab/base/sys.h"
#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::in_child;
using testing::limit_address_space;
using testing::open_descriptors;
using testing::ScopeFixture;

class ScopeFileTest : public ScopeFixture {
 protected:
  static abi::ThreadSlot* slot_at(std::byte* region, size_t index) {
    return reinterpret_cast<abi::ThreadSlot*>(region + index * abi::kThreadSlotBytes);
  }
  static uint64_t slot_offset(size_t index) {
    return abi::kThreadsOffset + index * abi::kThreadSlotBytes;
  }
  static constexpr uint64_t kAllocsOfCache1 =
      offsetof(abi::ThreadSlot, counters) + sizeof(abi::CounterPair);
};

TEST_F(ScopeFileTest, OpenLeavesOneNamedLockedFileAndNoDescriptor) {
  const size_t before = open_descriptors();
  ASSERT_TRUE(file().open(options_)) << file().failure();
  EXPECT_EQ(open_descriptors(), before);
  ASSERT_EQ(names().size(), 1u);
  const std::string name = names()[0];
  EXPECT_TRUE(name.ends_with(".scope")) << name;
  EXPECT_NE(name.find("-" + std::to_string(getpid()) + "-"), std::string::npos) << name;
  EXPECT_EQ(directory_ + "/" + name, file().path());

  struct stat status {};
  ASSERT_EQ(stat(file().path(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_EQ(static_cast<uint64_t>(status.st_size), abi::kFileBytes);
  EXPECT_LE(status.st_blocks * 512, 64 << 10) << "the file must be sparse";

  const int fd = ::open(file().path(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(flock(fd, LOCK_SH | LOCK_NB), -1) << "the mapping holds the lock";
  close(fd);
}

TEST_F(ScopeFileTest, TheHeaderTellsWhoAndWhere) {
  ASSERT_TRUE(file().open(options_));
  const auto header = read_at<abi::Header>(file().path(), 0);
  EXPECT_EQ(header.magic, abi::kMagic);
  EXPECT_EQ(header.version, abi::kVersion);
  EXPECT_EQ(header.layout_hash, abi::kLayoutHash);
  EXPECT_EQ(header.file_bytes, abi::kFileBytes);
  EXPECT_EQ(header.state, static_cast<uint32_t>(abi::ProcessState::kRunning));
  EXPECT_EQ(header.pid, static_cast<uint32_t>(getpid()));
  EXPECT_EQ(header.parent_pid, static_cast<uint32_t>(getppid()));
  EXPECT_STREQ(header.app, "tests");
  EXPECT_EQ(std::filesystem::read_symlink("/proc/self/exe").string(), header.exe);
  EXPECT_NE(header.comm[0], '\0');
  EXPECT_EQ(header.sections[abi::kSectionThreads].offset, abi::kThreadsOffset);
  EXPECT_EQ(header.sections[abi::kSectionObjects].limit, file().object_limit());
  file().set_exited();
  const auto end = read_at<abi::Header>(file().path(), 0);
  EXPECT_EQ(end.state, static_cast<uint32_t>(abi::ProcessState::kExited));
  EXPECT_GE(end.end_monotonic_ns, end.start_monotonic_ns);
}

TEST_F(ScopeFileTest, AHostileUmaskChangesNothing) {
  const mode_t old = umask(0777);
  options_.directory = nullptr;
  const std::string inner = directory_ + "/new";
  options_.directory = inner.c_str();
  const bool ok = file().open(options_);
  umask(old);
  ASSERT_TRUE(ok) << file().failure();
  struct stat status {};
  ASSERT_EQ(stat(file().path(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  ASSERT_EQ(stat(inner.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700u);
}

TEST_F(ScopeFileTest, WithoutAUsableDirectoryEverythingWorksUnseen) {
  const std::string bad = directory_ + "/a/b";  // one level is made, not two
  const int code = in_child([&] {
    // No other candidate may be usable either: a root of its own, with nothing in it.
    if (chroot(directory_.c_str()) != 0)
      return 77;
    ScopeFileOptions options = options_;
    options.directory = "/a/b";
    auto scope = std::make_unique<ScopeFile>();
    if (scope->open(options) || !scope->ready() || scope->shared())
      return 1;
    if (strlen(scope->failure()) == 0 || scope->path()[0] != '\0')
      return 2;
    if (!scope->ensure(&scope->caches()[9], sizeof(abi::CacheRecord)))
      return 3;
    scope->caches()[9].state = 1;
    std::byte* region = reserve(2);
    if (!scope->map_thread_block(1, region + ScopeFile::kThreadBlockBytes))
      return 4;
    slot_at(region, 32)->counters[1].allocs = 5;
    scope->set_exited();
    return scope->child_reopen() ? 5 : 0;
  });
  if (code == 77)
    GTEST_SKIP() << "needs chroot";
  EXPECT_EQ(code, 0);
}

TEST_F(ScopeFileTest, AFileSizeLimitDoesNotKill) {
  EXPECT_EQ(in_child([&] {
              const rlimit limit{1 << 20, 1 << 20};
              setrlimit(RLIMIT_FSIZE, &limit);
              if (file().open(options_) || !file().ready())
                return 1;
              return strstr(file().failure(), "RLIMIT_FSIZE") != nullptr ? 0 : 2;
            }),
            0);
  EXPECT_TRUE(names().empty());
}

TEST_F(ScopeFileTest, WithoutDescriptorsItFallsBack) {
  EXPECT_EQ(in_child([&] {
              const rlimit limit{3, 3};
              setrlimit(RLIMIT_NOFILE, &limit);
              return file().open(options_) || !file().ready() ? 1 : 0;
            }),
            0);
}

TEST_F(ScopeFileTest, ClosedStandardDescriptorsStayClosed) {
  EXPECT_EQ(in_child([&] {
              close(0);
              close(1);
              close(2);
              if (!file().open(options_))
                return 1;
              for (int fd = 0; fd < 3; ++fd) {
                if (fcntl(fd, F_GETFD) != -1)
                  return 2;
              }
              return 0;
            }),
            0);
}

TEST_F(ScopeFileTest, ALittleAddressSpaceGetsSmallTables) {
  const int code = in_child([&] {
    if (!limit_address_space())
      return 77;
    if (!file().open(options_))
      return 1;
    const abi::Section& depot = file().section(abi::kSectionDepot);
    const abi::Section& objects = file().section(abi::kSectionObjects);
    if (depot.bytes > 2 << 20 || depot.limit != depot.bytes / 8)
      return 2;
    if (objects.bytes > 2 << 20 || objects.limit != file().object_limit())
      return 3;
    return 0;
  });
  if (code == 77)
    GTEST_SKIP() << "this process is too large for a limit";
  EXPECT_EQ(code, 0);
}

TEST_F(ScopeFileTest, ThreadBlocksGrowByRemappingInAnyOrder) {
  ASSERT_TRUE(file().open(options_));
  constexpr size_t kBlocks = 40;
  std::byte* region = reserve(kBlocks);
  ASSERT_NE(region, nullptr);
  std::vector<size_t> order;
  for (size_t block = 0; block < kBlocks; ++block)
    order.push_back(block);
  std::swap(order[3], order[30]);
  for (const size_t block : order) {
    std::byte* at = region + block * ScopeFile::kThreadBlockBytes;
    ASSERT_TRUE(file().map_thread_block(static_cast<unsigned>(block), at)) << block;
    abi::ThreadSlot* slot = reinterpret_cast<abi::ThreadSlot*>(at);
    ASSERT_TRUE(file().ensure_slot(slot));
    slot->counters[1].allocs = 100 + block;
  }
  for (size_t block = 0; block < kBlocks; ++block) {
    const uint64_t offset = slot_offset(block * abi::kThreadSlotsPerBlock);
    EXPECT_EQ(read_at<uint64_t>(file().path(), offset + kAllocsOfCache1), 100 + block);
  }
  EXPECT_FALSE(file().map_thread_block(ScopeFile::kThreadBlocks, region));
}

TEST_F(ScopeFileTest, MemoryThatIsNotTheFilesIsAlwaysSafe) {
  ASSERT_TRUE(file().open(options_));
  char own[100];
  EXPECT_TRUE(file().ensure(own, sizeof own));
  EXPECT_FALSE(file().ensure(file().objects() + file().object_limit() - 1, 4096));
}

// Opens a scope file on a tmpfs of `bytes` and calls `body` in a child with mounts of its own.
int on_small_tmpfs(const std::string& directory, const char* size,
                   const std::function<int(ScopeFile&)>& body) {
  return in_child([&] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", directory.c_str(), "tmpfs", 0, size) != 0) {
      return 77;
    }
    const std::string inside = directory + "/scopes";
    ScopeFileOptions options;
    options.directory = inside.c_str();
    auto scope = std::make_unique<ScopeFile>();
    if (!scope->open(options))
      return 1;
    return body(*scope);
  });
}

TEST_F(ScopeFileTest, AFullFileSystemIsAnAnswerAndNoSignal) {
  const int code = on_small_tmpfs(directory_, "size=256k", [&](ScopeFile& scope) {
    size_t present = 0;
    while (present < abi::kMaxCaches &&
           scope.ensure(&scope.caches()[present], sizeof(abi::CacheRecord))) {
      scope.caches()[present].kind = 1;
      ++present;
    }
    if (present < 600 || present > 1400)
      return 2;  // some 60 pages of 21 records
    if (scope.ensure(scope.objects(), sizeof(abi::ObjectRecord)))
      return 3;
    std::byte* region = reserve(1);
    if (!scope.map_thread_block(0, region))
      return 4;
    if (scope.ensure_slot(slot_at(region, 0)))
      return 5;
    // It works again once there is room.
    if (!std::filesystem::remove(scope.path()))
      return 6;
    return 0;
  });
  if (code == 77)
    GTEST_SKIP() << "needs a mount namespace";
  EXPECT_EQ(code, 0);
}

TEST_F(ScopeFileTest, AFullFileSystemIsAskedAgainAfterAWhile) {
  const int code = on_small_tmpfs(directory_, "size=256k", [&](ScopeFile& scope) {
    const std::string filler = directory_ + "/filler";
    const int fd = ::open(filler.c_str(), O_CREAT | O_WRONLY, 0600);
    const char page[4096] = {1};
    while (write(fd, page, sizeof page) > 0) {
    }
    const uint64_t asked = coarse_monotonic_ns();
    if (scope.ensure(scope.objects(), sizeof(abi::ObjectRecord)) ||
        scope.ensure(scope.depot(), sizeof(uint32_t))) {
      return 2;
    }
    std::filesystem::remove(filler);
    if (close(fd) != 0)
      return 3;
    // What is not asked for at each allocation need not wait.
    if (!scope.ensure(scope.caches() + 600, sizeof(abi::CacheRecord)))
      return 4;
    while (!scope.ensure(scope.objects(), sizeof(abi::ObjectRecord)) ||
           !scope.ensure(scope.depot(), sizeof(uint32_t))) {
    }
    return coarse_monotonic_ns() - asked >= ScopeFile::kFullNs ? 0 : 5;
  });
  if (code == 77)
    GTEST_SKIP() << "needs a mount namespace";
  EXPECT_EQ(code, 0);
}

TEST_F(ScopeFileTest, AFileSystemWithoutOnePageFallsBack) {
  const int code = in_child([&] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=4k") != 0) {
      return 77;
    }
    const int fd = ::open("/dev/shm/filler", O_CREAT | O_WRONLY, 0600);
    const char page[4096] = {1};
    if (write(fd, page, sizeof page) != sizeof page)
      return 1;
    ScopeFileOptions options;
    options.directory = "/dev/shm/given";
    auto scope = std::make_unique<ScopeFile>();
    if (scope->open(options))
      return 2;
    if (!scope->ready())
      return 3;
    // Nothing may be left lying there.
    return std::filesystem::is_empty("/dev/shm/given") ? 0 : 4;
  });
  if (code == 77)
    GTEST_SKIP() << "needs a mount namespace";
  EXPECT_EQ(code, 0);
}

TEST_F(ScopeFileTest, DirectoriesOfOthersAndLinksAreNotUsed) {
  const std::string runtime = directory_ + "/runtime";
  const std::string target = directory_ + "/target";
  std::filesystem::create_directory(runtime);
  std::filesystem::create_directory(target);
  std::filesystem::create_symlink(target, runtime + "/slabscope");
  options_.directory = nullptr;
  options_.xdg_runtime_dir = runtime.c_str();
  static_cast<void>(file().open(options_));
  EXPECT_TRUE(std::filesystem::is_empty(target)) << "a symbolic link was followed";
  if (file().shared())
    std::filesystem::remove(file().path());
}

// ---- fork -----------------------------------------------------------------------------------

TEST_F(ScopeFileTest, ADetachedChildNeverWritesToItsParentsFile) {
  open_tables();
  std::byte* region = reserve(2);
  ASSERT_TRUE(file().map_thread_block(0, region));
  ASSERT_TRUE(file().ensure_slot(slot_at(region, 0)));
  slot_at(region, 0)->counters[1].allocs = 7;
  ASSERT_TRUE(file().ensure(&file().caches()[1], sizeof(abi::CacheRecord)));
  file().caches()[1].stats.slabs = 3;
  const uintptr_t frames[] = {1, 2, 3};
  const uint32_t stack = depot().insert(frames, 3, 1, nullptr);
  const uint32_t object = objects().add(0x1000, 64, stack, 1, 1);
  const std::string path = file().path();

  const int code = in_child([&] {
    if (file().child_detach() != ForkKept::kEverything || file().shared())
      return 1;
    if (slot_at(region, 0)->counters[1].allocs != 7)
      return 2;
    slot_at(region, 0)->counters[1].allocs = 1000;
    file().caches()[1].stats.slabs = 1000;
    objects().remove(object);
    if (depot().find(stack)->live_objects != 0)
      return 3;
    const uint32_t other = objects().add(0x2000, 32, stack, 1, 1);
    if (objects().find(other) == nullptr)
      return 4;
    if (!file().map_thread_block(1, region + ScopeFile::kThreadBlockBytes))
      return 5;
    slot_at(region, 32)->counters[1].allocs = 9;
    file().set_exited();
    return file().header()->pid == static_cast<uint32_t>(getpid()) ? 0 : 6;
  });
  EXPECT_EQ(code, 0);
  EXPECT_EQ(
      read_at<abi::CacheRecord>(path, abi::kCachesOffset + sizeof(abi::CacheRecord)).stats.slabs,
      3u);
  EXPECT_EQ(read_at<uint64_t>(path, slot_offset(0) + kAllocsOfCache1), 7u);
  EXPECT_EQ(read_at<uint64_t>(path, slot_offset(32) + kAllocsOfCache1), 0u);
  EXPECT_EQ(depot().find(stack)->live_objects, 1u);
  const auto header = read_at<abi::Header>(path, 0);
  EXPECT_EQ(header.state, static_cast<uint32_t>(abi::ProcessState::kRunning));
  EXPECT_EQ(header.pid, static_cast<uint32_t>(getpid()));
}

TEST_F(ScopeFileTest, AReopenedChildHasAFileOfItsOwnWithWhatWasThere) {
  open_tables();
  std::byte* region = reserve(2);
  ASSERT_TRUE(file().map_thread_block(0, region));
  ASSERT_TRUE(file().ensure_slot(slot_at(region, 3)));
  slot_at(region, 3)->counters[1].allocs = 7;
  const uintptr_t frames[] = {1, 2, 3};
  const uint32_t stack = depot().insert(frames, 3, 1, nullptr);
  ASSERT_NE(objects().add(0x1000, 64, stack, 1, 1), 0u);
  const std::string parent_path = file().path();
  const size_t descriptors = open_descriptors();

  const int code = in_child([&] {
    file().child_detach();
    if (!file().child_reopen() || !file().shared())
      return 1;
    if (open_descriptors() != descriptors)
      return 2;
    slot_at(region, 3)->counters[1].allocs = 8;
    if (!file().map_thread_block(1, region + ScopeFile::kThreadBlockBytes))
      return 3;
    if (!file().ensure_slot(slot_at(region, 40)))
      return 4;
    slot_at(region, 40)->counters[1].allocs = 9;
    const std::string path = file().path();
    if (path == parent_path)
      return 5;
    const auto header = read_at<abi::Header>(path, 0);
    if (header.pid != static_cast<uint32_t>(getpid()) ||
        header.parent_pid != static_cast<uint32_t>(getppid())) {
      return 6;
    }
    if (read_at<uint64_t>(path, slot_offset(3) + kAllocsOfCache1) != 8)
      return 7;
    if (read_at<uint64_t>(path, slot_offset(40) + kAllocsOfCache1) != 9)
      return 8;
    const auto record = read_at<abi::StackRecord>(path, abi::kDepotOffset + uint64_t{stack} * 8);
    if (record.live_objects != 1 || record.frame_count != 3)
      return 9;
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    return flock(fd, LOCK_SH | LOCK_NB) == -1 ? 0 : 10;
  });
  EXPECT_EQ(code, 0);
  EXPECT_EQ(read_at<uint64_t>(parent_path, slot_offset(3) + kAllocsOfCache1), 7u);
  EXPECT_EQ(names().size(), 2u);
}

TEST_F(ScopeFileTest, TheParentsLockEndsWithTheParent) {
  // A detached child that outlives its parent must not make it look alive.
  int ends[2];
  int detached[2];
  int checked[2];  // closed by the test: the child may end
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(pipe(detached), 0);
  ASSERT_EQ(pipe(checked), 0);
  char path[400] = {};
  char byte = 0;
  const int code = in_child([&] {
    if (!file().open(options_))
      return 1;
    if (write(ends[1], file().path(), strlen(file().path())) < 0)
      return 2;
    if (fork() == 0) {
      file().child_detach();
      close(checked[1]);
      _exit(write(detached[1], "d", 1) == 1 && read(checked[0], &byte, 1) == 0 ? 0 : 1);
    }
    return read(detached[0], &byte, 1) == 1 ? 0 : 3;
  });
  ASSERT_EQ(code, 0);
  ASSERT_GT(read(ends[0], path, sizeof path - 1), 0);
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(flock(fd, LOCK_SH | LOCK_NB), 0);
  for (const int end : {fd, ends[0], ends[1], detached[0], detached[1], checked[0], checked[1]}) {
    close(end);
  }
}

TEST_F(ScopeFileTest, TheForkingThreadsCountsAreThoseOfTheFork) {
  ASSERT_TRUE(file().open(options_));
  std::byte* region = reserve(1);
  ASSERT_TRUE(file().map_thread_block(0, region));
  abi::ThreadSlot* slot = slot_at(region, 2);
  ASSERT_TRUE(file().ensure_slot(slot));
  slot->counters[1].allocs = 10;
  file().fork_prepare(slot);
  slot->counters[1].allocs = 11;  // the parent, running on
  const int code = in_child([&] {
    file().child_detach();
    return static_cast<int>(slot->counters[1].allocs);
  });
  EXPECT_EQ(code, 10);
}

TEST_F(ScopeFileTest, AGrandchildCanReopenToo) {
  ASSERT_TRUE(file().open(options_));
  const int code = in_child([&] {
    file().child_detach();
    return in_child([&] {
      file().child_detach();
      return file().child_reopen() ? 0 : 1;
    });
  });
  EXPECT_EQ(code, 0);
  EXPECT_EQ(names().size(), 2u);
}

}  // namespace
}  // namespace slabscope::diag
