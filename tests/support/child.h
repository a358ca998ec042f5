// SPDX-License-Identifier: MIT
//
// Children of whole-process tests: run a piece of code in a forked child, or this program again
// with another mode, and wait with a deadline. Nothing here allocates in the child before its code
// runs.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/check.h"

namespace slabscope::test {

inline constexpr int kChildSeconds = 120;

inline double now_seconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Waits for the child and returns its wait status; a child that outlives the deadline is a failure.
inline int wait_for(pid_t child, int seconds = kChildSeconds) {
  const int watch = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  if (watch >= 0) {
    pollfd ended{watch, POLLIN, 0};
    int ready = 0;
    do {
      ready = poll(&ended, 1, seconds * 1000);
    } while (ready < 0 && errno == EINTR);
    close(watch);
    if (ready == 0) {
      kill(child, SIGKILL);
      tell("child did not end in time\n");
    }
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    SC_EXPECT(errno == EINTR);
  }
  return status;
}

// Runs code() in a forked child, which then ends with exit code 0, or without exit handlers if the
// code itself calls _exit. Returns the wait status.
template <typename Code>
int in_child(Code code, int seconds = kChildSeconds) {
  const pid_t child = fork();
  SC_EXPECT(child >= 0);
  if (child == 0) {
    alarm(static_cast<unsigned>(2 * seconds));  // ends by itself if nobody is left to end it
    code();
    _exit(0);
  }
  return wait_for(child, seconds);
}

// Runs this program again with one argument; before() is called in the child ahead of exec.
template <typename Before>
int again(const char* mode, Before before, int seconds = kChildSeconds) {
  const pid_t child = fork();
  SC_EXPECT(child >= 0);
  if (child == 0) {
    before();
    execl("/proc/self/exe", "again", mode, static_cast<char*>(nullptr));
    _exit(127);
  }
  return wait_for(child, seconds);
}

inline int again(const char* mode, int seconds = kChildSeconds) {
  return again(
      mode, [] {}, seconds);
}

[[nodiscard]] inline bool exited(int status, int code = 0) {
  return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

// Looks at the condition until it holds; false if the deadline passes first.
template <typename Condition>
[[nodiscard]] bool eventually(Condition condition, int seconds = kChildSeconds) {
  const double deadline = now_seconds() + seconds;
  while (!condition()) {
    if (now_seconds() > deadline) {
      return false;
    }
    poll(nullptr, 0, 1);
  }
  return true;
}

}  // namespace slabscope::test
