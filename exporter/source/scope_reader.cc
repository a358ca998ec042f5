// SPDX-License-Identifier: MIT

#include "exporter/source/scope_reader.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace slabscope {
namespace {

constexpr uint64_t kPieceBytes = 1 << 20;

Failure open_failure(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR) {
    return {ErrorCode::kNotFound, path + ": no such file"};
  }
  if (error == EACCES || error == EPERM) {
    return {ErrorCode::kUnreadable,
            path + ": permission denied; run slabscope as the user of that process, or as root"};
  }
  return {ErrorCode::kUnreadable, path + ": " + std::generic_category().message(error)};
}

}  // namespace

Result<ScopeReader> ScopeReader::open(const std::string& path) {
  // O_NONBLOCK: a FIFO of that name must not hold us up.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    return open_failure(path, errno);
  }
  ScopeReader reader(fd);
  struct stat status {};
  if (fstat(fd, &status) != 0) {
    return open_failure(path, errno);
  }
  if (!S_ISREG(status.st_mode)) {
    return Failure{ErrorCode::kBadMagic, path + ": not a regular file, so not a scope file"};
  }
  reader.path_ = path;
  reader.id_ = {status.st_dev, status.st_ino};
  reader.owner_ = status.st_uid;
  reader.file_bytes_ = static_cast<uint64_t>(std::max<off_t>(status.st_size, 0));
  return reader;
}

ScopeReader::ScopeReader(ScopeReader&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      id_(other.id_),
      owner_(other.owner_),
      file_bytes_(other.file_bytes_) {}

ScopeReader& ScopeReader::operator=(ScopeReader&& other) noexcept {
  std::swap(fd_, other.fd_);
  path_ = std::move(other.path_);
  id_ = other.id_;
  owner_ = other.owner_;
  file_bytes_ = other.file_bytes_;
  return *this;
}

ScopeReader::~ScopeReader() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

LockState ScopeReader::probe_lock() const {
  if (flock(fd_, LOCK_SH | LOCK_NB) == 0) {
    flock(fd_, LOCK_UN);
    return LockState::kFree;
  }
  return errno == EWOULDBLOCK ? LockState::kHeld : LockState::kFree;
}

size_t ScopeReader::read(uint64_t offset, void* into, size_t bytes) const {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t got = pread(fd_, static_cast<std::byte*>(into) + done, bytes - done,
                              static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      break;
    }
    done += static_cast<size_t>(got);
  }
  return done;
}

ScopeReader::Extent ScopeReader::next_extent(uint64_t from, uint64_t end) const {
  if (from >= end) {
    return {end, end};
  }
  const off_t data = lseek(fd_, static_cast<off_t>(from), SEEK_DATA);
  if (data < 0) {
    // ENXIO: nothing but a hole up to the end.  Anything else: no notion of holes here.
    return errno == ENXIO ? Extent{end, end} : Extent{from, end};
  }
  const uint64_t begin = static_cast<uint64_t>(data);
  if (begin >= end) {
    return {end, end};
  }
  const off_t hole = lseek(fd_, data, SEEK_HOLE);
  return {begin, hole < 0 ? end : std::min(static_cast<uint64_t>(hole), end)};
}

void ScopeReader::visit_data(uint64_t begin, uint64_t end, uint64_t record_bytes,
                             const Visitor& visit) const {
  end = std::min(end, file_bytes_);
  if (begin >= end) {
    return;
  }
  const uint64_t piece = std::max<uint64_t>(1, kPieceBytes / record_bytes) * record_bytes;
  std::vector<std::byte> buffer;
  uint64_t position = begin;
  while (position < end) {
    const Extent extent = next_extent(position, end);
    if (extent.begin >= extent.end) {
      return;
    }
    // Widened to whole records.
    const uint64_t first = begin + (extent.begin - begin) / record_bytes * record_bytes;
    const uint64_t beyond = (extent.end - begin + record_bytes - 1) / record_bytes * record_bytes;
    const uint64_t last = std::min(begin + beyond, end);
    position = std::max(first, position);
    while (position < last) {
      const size_t wanted = static_cast<size_t>(std::min(piece, last - position));
      buffer.resize(wanted);
      const size_t got = read(position, buffer.data(), wanted);
      visit(position, buffer.data(), got);
      if (got < wanted) {
        return;
      }
      position += wanted;
    }
  }
}

}  // namespace slabscope
