// SPDX-License-Identifier: MIT

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <cstring>

#include "diag/scope_dir.h"
#include "slab/base/clock.h"
#include "slab/base/sys.h"

namespace slabscope::diag {
namespace {

constexpr unsigned kMaxLooked = 512;   // directory entries one start looks at
constexpr unsigned kMaxRemoved = 64;   // of these, files it removes
constexpr unsigned kMaxExamined = 96;  // of these, files it opens
constexpr long kKeepSeconds = 600;     // after the first shim saw it dead
constexpr long kCrowdedKeepSeconds = 10;

struct DirectoryEntry {  // linux_dirent64
  uint64_t inode;
  int64_t next;
  uint16_t bytes;
  uint8_t type;
  char name[1];
};

bool ends_with(const char* name, const char* suffix) {
  const size_t name_bytes = strlen(name);
  const size_t suffix_bytes = strlen(suffix);
  return name_bytes > suffix_bytes &&
         memcmp(name + name_bytes - suffix_bytes, suffix, suffix_bytes) == 0;
}

bool is_ours_by_name(const char* name) {
  return ends_with(name, ".scope") || ends_with(name, ".tmp");
}

bool half_full(int directory) {
  struct statfs system {};
  if (sys::failed(sys::raw(SYS_fstatfs, directory, sys::arg(&system))))
    return false;
  return system.f_bfree < system.f_blocks / 2;
}

class Sweep {
 public:
  Sweep(int directory, bool crowded)
      : directory_(directory),
        crowded_(crowded),
        uid_(static_cast<uid_t>(sys::raw(SYS_geteuid))),
        now_(static_cast<long>(realtime_ns() / 1'000'000'000)) {}

  // False when enough was done.
  bool look(const char* name) {
    if (++looked_ >= kMaxLooked || removed_ >= kMaxRemoved || examined_ >= kMaxExamined)
      return false;
    if (is_ours_by_name(name))
      examine(name);
    return true;
  }
  unsigned removed() const { return removed_; }

 private:
  void examine(const char* name) {
    struct stat status {};
    if (sys::failed(sys::raw(SYS_newfstatat, directory_, sys::arg(name), sys::arg(&status),
                             AT_SYMLINK_NOFOLLOW)) ||
        !is_candidate(status)) {
      return;
    }
    ++examined_;
    const long fd = sys::raw(SYS_openat, directory_, sys::arg(name),
                             O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (sys::failed(fd))
      return;
    struct stat opened {};
    if (!sys::failed(sys::raw(SYS_flock, fd, LOCK_EX | LOCK_NB)) &&
        !sys::failed(sys::raw(SYS_fstat, fd, sys::arg(&opened))) &&
        opened.st_ino == status.st_ino) {
      judge_dead(fd, name, opened);
    }
    sys::raw(SYS_close, fd);
  }

  bool is_candidate(const struct stat& status) const {
    return (status.st_mode & S_IFMT) == S_IFREG && status.st_uid == uid_ &&
           now_ - status.st_mtim.tv_sec > kCrowdedKeepSeconds &&
           (crowded_ || !is_marked(status) || now_ - status.st_mtim.tv_sec > kKeepSeconds);
  }

  static bool is_marked(const struct stat& status) { return (status.st_mode & S_IWUSR) == 0; }

  void judge_dead(long fd, const char* name, const struct stat& status) {
    const bool old = is_marked(status) && now_ - status.st_mtim.tv_sec > kKeepSeconds;
    if (old || crowded_) {
      if (!sys::failed(sys::raw(SYS_unlinkat, directory_, sys::arg(name), 0)))
        ++removed_;
    } else if (!is_marked(status)) {
      sys::raw(SYS_fchmod, fd, 0400);
      sys::raw(SYS_utimensat, fd, 0, 0, 0);
    }
  }

  int directory_;
  bool crowded_;
  uid_t uid_;
  long now_;
  unsigned looked_ = 0;
  unsigned removed_ = 0;
  unsigned examined_ = 0;
};

// Calls visit(name) until it says stop or the directory ends.
template <typename Visit>
void for_each_name(int directory, Visit&& visit) {
  alignas(8) char buffer[1536];
  for (;;) {
    const long bytes = sys::raw(SYS_getdents64, directory, sys::arg(buffer), sizeof buffer);
    if (bytes <= 0)
      return;
    for (long at = 0; at < bytes;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(buffer + at);
      if (!visit(static_cast<const char*>(entry->name)))
        return;
      // NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): the kernel wrote it.
      at += entry->bytes;
    }
  }
}

unsigned count_names(int directory) {
  unsigned count = 0;
  for_each_name(directory, [&](const char*) { return ++count < kMaxLooked; });
  sys::raw(SYS_lseek, directory, 0, 0);
  return count;
}

int open_listing(const char* directory) {
  const long fd = sys::raw(SYS_openat, AT_FDCWD, sys::arg(directory),
                           O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  return sys::failed(fd) ? -1 : static_cast<int>(fd);
}

}  // namespace

bool stale_files_are_due(const char* directory) {
  const uint64_t dice = random_bits();
  if (dice % 32 == 0)
    return true;
  struct statfs system {};
  if (sys::failed(sys::raw(SYS_statfs, sys::arg(directory), sys::arg(&system))))
    return false;
  return system.f_bfree < system.f_blocks / 2 && dice % 4 == 0;
}

unsigned remove_stale_files(const char* directory) {
  const int fd = open_listing(directory);
  if (fd < 0)
    return 0;
  Sweep sweep(fd, half_full(fd) || count_names(fd) >= kMaxLooked);
  for_each_name(fd, [&](const char* name) { return sweep.look(name); });
  sys::raw(SYS_close, fd);
  return sweep.removed();
}

}  // namespace slabscope::diag
