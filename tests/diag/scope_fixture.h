// SPDX-License-Identifier: MIT
//
// ScopeFixture: a scope file in a directory of its own on tmpfs, with the tables on it.

#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "diag/module_table.h"
#include "diag/object_table.h"
#include "diag/scope_file.h"
#include "diag/stack_depot.h"

namespace slabscope::diag::testing {

inline bool under_sanitizer() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

// False where a test with threads that capture by libunwind cannot be.
inline bool threads_may_use_libunwind() {
#if defined(__SANITIZE_THREAD__)
  return false;
#else
  return true;
#endif
}
inline constexpr const char* kWhyThreadsMayNot =
    "libunwind locks a mutex after ThreadSanitizer has taken leave of the thread";

inline size_t open_descriptors() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

// Runs `body` in a fork child; its result is the child's exit code (0..255), or -signal.
inline int in_child(const std::function<int()>& body) {
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0)
    _exit(body());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// Limits address space so that the tables are small; false if this process is too large for that
// already (what other tests' threads left mapped).
inline bool limit_address_space() {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  constexpr size_t kLimit = size_t{255} << 20;
  if (under_sanitizer() || pages * 4096 > kLimit - (size_t{32} << 20))
    return false;
  const rlimit limit{kLimit, kLimit};
  return setrlimit(RLIMIT_AS, &limit) == 0;
}

class ScopeFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    directory_ = std::string(base) + "/scope-test-XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    options_.directory = directory_.c_str();
    options_.app = "tests";
    options_.mode = abi::TrackMode::kAll;
    options_.interval = 1;
  }
  void TearDown() override {
    give_back();
    std::filesystem::remove_all(directory_);
  }
  // Unmaps all that this test mapped: some of it is large, and limits count it.
  void give_back() {
    file().close_test_only();
    if (region_ != nullptr)
      munmap(region_, region_bytes_);
    region_ = nullptr;
  }

  // Address space for thread blocks, as preload reserves it. Once a test.
  std::byte* reserve(size_t blocks) {
    region_bytes_ = blocks * ScopeFile::kThreadBlockBytes;
    void* region =
        mmap(nullptr, region_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    region_ = region == MAP_FAILED ? nullptr : static_cast<std::byte*>(region);
    return region_;
  }

  void open_tables() {
    ASSERT_TRUE(file().open(options_)) << file().failure();
    depot().init(file());
    ASSERT_TRUE(objects().init(file(), depot()));
    modules().init(file());
  }

  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      found.push_back(entry.path().filename().string());
    }
    return found;
  }

  // What a reader sees of the file at `path`.
  template <typename T>
  static T read_at(const std::string& path, uint64_t offset) {
    T value{};
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_GE(fd, 0) << path;
    EXPECT_EQ(pread(fd, &value, sizeof value, static_cast<off_t>(offset)),
              static_cast<ssize_t>(sizeof value));
    close(fd);
    return value;
  }

  ScopeFile& file() { return *file_; }
  StackDepot& depot() { return depot_; }
  ObjectTable& objects() { return objects_; }
  ModuleTable& modules() { return *modules_; }

  std::string directory_;
  ScopeFileOptions options_;

 private:
  std::byte* region_ = nullptr;
  size_t region_bytes_ = 0;
  std::unique_ptr<ScopeFile> file_ = std::make_unique<ScopeFile>();
  StackDepot depot_;
  ObjectTable objects_;
  std::unique_ptr<ModuleTable> modules_ = std::make_unique<ModuleTable>();
};

}  // namespace slabscope::diag::testing
