// SPDX-License-Identifier: MIT

#include "diag/scope_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>

#include "diag/abi/layout.h"
#include "diag/sampler.h"
#include "slab/base/clock.h"
#include "slab/base/sys.h"

namespace slabscope::diag {
namespace {

constexpr long kTmpfsMagic = 0x01021994;

void close_fd(int& fd) {
  if (fd >= 0)
    sys::raw(SYS_close, fd);
  fd = -1;
}

uid_t effective_uid() {
  return static_cast<uid_t>(sys::raw(SYS_geteuid));
}

// A descriptor above 2, so that a program whose standard output is closed cannot write into it.
int above_standard(int fd) {
  if (fd < 0 || fd > STDERR_FILENO)
    return fd;
  const long higher = sys::raw(SYS_fcntl, fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  sys::raw(SYS_close, fd);
  return sys::failed(higher) ? -1 : static_cast<int>(higher);
}

int open_at(int directory, const char* path, int flags, int mode) {
  return above_standard(static_cast<int>(
      sys::raw(SYS_openat, directory, sys::arg(path), flags | O_CLOEXEC | O_NOFOLLOW, mode)));
}

bool may_use(const struct stat& status, DirectoryKind kind) {
  if ((status.st_mode & S_IFMT) != S_IFDIR)
    return false;
  const bool ours = status.st_uid == effective_uid();
  const bool others_write = (status.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  switch (kind) {
    case DirectoryKind::kGiven:
      return true;
    case DirectoryKind::kShared:
      return (ours || status.st_uid == 0) && (!others_write || (status.st_mode & S_ISVTX) != 0);
    case DirectoryKind::kPrivate:
      return ours && !others_write;
  }
  return false;
}

const char* open_directory(const char* path, DirectoryKind kind, int& fd) {
  if (kind != DirectoryKind::kShared &&
      !sys::failed(sys::raw(SYS_mkdirat, AT_FDCWD, sys::arg(path), 0700))) {
    sys::raw(SYS_fchmodat, AT_FDCWD, sys::arg(path), 0700);  // whatever the umask
  }
  // The user may name a symbolic link; ours are not followed.
  const long opened =
      sys::raw(SYS_openat, AT_FDCWD, sys::arg(path),
               O_PATH | O_DIRECTORY | O_CLOEXEC | (kind == DirectoryKind::kGiven ? 0 : O_NOFOLLOW));
  fd = above_standard(static_cast<int>(opened));
  if (fd < 0)
    return "the directory cannot be opened";
  struct stat status {};
  struct statfs system {};
  const char* why = nullptr;
  if (sys::failed(sys::raw(SYS_fstat, fd, sys::arg(&status))) || !may_use(status, kind)) {
    why = "the directory belongs to somebody else";
  } else if (kind != DirectoryKind::kGiven &&
             (sys::failed(sys::raw(SYS_fstatfs, fd, sys::arg(&system))) ||
              system.f_type != kTmpfsMagic)) {
    why = "the directory is not on tmpfs";
  }
  if (why != nullptr)
    close_fd(fd);
  return why;
}

// Growing a file beyond this limit is SIGXFSZ, which kills.
bool file_size_allowed() {
  struct rlimit limit {};
  const long result = sys::raw(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, sys::arg(&limit));
  return sys::failed(result) || limit.rlim_cur >= abi::kFileBytes;
}

}  // namespace

uint64_t random_bits() {
  uint64_t bits = 0;
  constexpr long kNonBlocking = 1;
  if (sys::raw(SYS_getrandom, sys::arg(&bits), sizeof bits, kNonBlocking) != sizeof bits) {
    bits ^= seed_rng(realtime_ns() ^ (static_cast<uint64_t>(sys::pid()) << 40) ^
                     reinterpret_cast<uintptr_t>(&bits));
  }
  return bits;
}

const char* create_file(const char* directory, DirectoryKind kind, NewFile& file) {
  if (!file_size_allowed())
    return "RLIMIT_FSIZE is too small";
  const char* why = open_directory(directory, kind, file.directory_fd);
  if (why != nullptr)
    return why;
  file.temporary.clear();
  file.temporary.put('.').hex(random_bits()).add(".tmp");
  file.fd = open_at(file.directory_fd, file.temporary.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  if (file.fd < 0) {
    close_fd(file.directory_fd);
    return "no file can be created in the directory";
  }
  if (sys::failed(sys::raw(SYS_fchmod, file.fd, 0600))) {
    why = "the file's mode cannot be set";
  } else if (sys::failed(sys::raw(SYS_flock, file.fd, LOCK_EX | LOCK_NB))) {
    why = "the file cannot be locked";
  } else if (sys::failed(sys::raw(SYS_ftruncate, file.fd, static_cast<long>(abi::kFileBytes)))) {
    why = "the file cannot be sized";
  }
  if (why != nullptr)
    discard_file(file);
  return why;
}

const char* publish_file(NewFile& file, const char* directory, uint64_t start_ns, int pid,
                         Path& path) {
  Text<64> name;
  name.decimal(start_ns).put('-').decimal(static_cast<uint64_t>(pid)).put('-').hex(random_bits());
  name.add(".scope");
  path.clear();
  path.add(directory).put('/').add(name.c_str());
  if (path.cut() ||
      sys::failed(sys::raw(SYS_renameat, file.directory_fd, sys::arg(file.temporary.c_str()),
                           file.directory_fd, sys::arg(name.c_str())))) {
    path.clear();
    discard_file(file);
    return "the file cannot be renamed";
  }
  close_fd(file.fd);
  close_fd(file.directory_fd);
  return nullptr;
}

void discard_file(NewFile& file) {
  sys::raw(SYS_unlinkat, file.directory_fd, sys::arg(file.temporary.c_str()), 0);
  close_fd(file.fd);
  close_fd(file.directory_fd);
}

}  // namespace slabscope::diag
