// SPDX-License-Identifier: MIT

#include "exporter/source/reap.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace slabscope {
namespace {

// With the lock held in `fd`, so that a starting shim or another reaper stays away meanwhile.
ReapResult remove_locked(int fd, const TargetInfo& target) {
  struct stat opened {};
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return ReapResult::kStillUsed;
  }
  if (fstat(fd, &opened) != 0 || FileId{opened.st_dev, opened.st_ino} != target.file) {
    return ReapResult::kGone;
  }
  if (unlink(target.path.c_str()) == 0) {
    return ReapResult::kRemoved;
  }
  return errno == ENOENT ? ReapResult::kGone : ReapResult::kRefused;
}

}  // namespace

ReapResult reap(const TargetInfo& target) {
  const int fd = open(target.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) {
    return errno == ENOENT ? ReapResult::kGone : ReapResult::kRefused;
  }
  const ReapResult result = remove_locked(fd, target);
  close(fd);
  return result;
}

}  // namespace slabscope
