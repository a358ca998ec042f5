// SPDX-License-Identifier: MIT

#include "slab/base/sys.h"

#include <time.h>

#include <cerrno>

namespace slabscope::sys {
namespace {

uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  if (failed(raw(SYS_clock_gettime, clock, arg(&now)))) return 0;
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

uint64_t monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }
uint64_t realtime_ns() { return clock_ns(CLOCK_REALTIME); }
uint64_t coarse_ns() { return clock_ns(CLOCK_MONOTONIC_COARSE); }

int pid() { return static_cast<int>(raw(SYS_getpid)); }
int tid() { return static_cast<int>(raw(SYS_gettid)); }

void write_all(int fd, const char* text, size_t bytes) {
  while (bytes > 0) {
    const long wrote = raw(SYS_write, fd, arg(text), arg(bytes));
    if (wrote == -EINTR) continue;
    if (wrote <= 0) return;
    text += wrote;
    bytes -= static_cast<size_t>(wrote);
  }
}

}  // namespace slabscope::sys
