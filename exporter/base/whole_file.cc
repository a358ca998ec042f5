// SPDX-License-Identifier: MIT

#include "exporter/base/whole_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace slabscope {

std::optional<std::string> read_whole_file(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return std::nullopt;
  }
  std::string text;
  std::array<char, 1 << 14> piece;
  ssize_t got = 0;
  do {
    got = read(fd, piece.data(), piece.size());
    text.append(piece.data(), got > 0 ? static_cast<size_t>(got) : 0);
  } while (got > 0 || (got < 0 && errno == EINTR));
  const int error = errno;
  close(fd);
  errno = error;
  return got == 0 ? std::optional(std::move(text)) : std::nullopt;
}

}  // namespace slabscope
