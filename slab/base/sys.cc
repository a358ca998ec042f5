// SPDX-License-Identifier: MIT

#include "slab/base/sys.h"

#include <cerrno>

namespace slabscope::sys {
int pid() {
  return static_cast<int>(raw(SYS_getpid));
}
int tid() {
  return static_cast<int>(raw(SYS_gettid));
}

void write_all(int fd, const char* text, size_t bytes) {
  while (bytes > 0) {
    const long wrote = raw(SYS_write, fd, arg(text), arg(bytes));
    if (wrote == -EINTR)
      continue;
    if (wrote <= 0)
      return;
    text += wrote;
    bytes -= static_cast<size_t>(wrote);
  }
}

}  // namespace slabscope::sys
