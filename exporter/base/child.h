// SPDX-License-Identifier: MIT
//
// child: the program that `slabscope run` runs.
//
//   BlockedSignals ─► spawn() ─fork─► mask and dispositions as we found them ─► execvp
//                        │                                      └ failure: errno through a pipe
//                        └─► wait_for() ─► forwards what was sent to us alone, until the child ends
//
// A terminal's signals reach the child anyway, for it is in our process group; only what somebody
// sent to us with kill(1) is passed on.

#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "exporter/base/signals.h"

namespace slabscope {

struct ChildCommand {
  std::vector<std::string> arguments;    // the first one is the program, looked up in PATH
  std::vector<std::string> environment;  // NAME=VALUE
};

// Which of our own dispositions a child must not inherit as we have changed them.
struct SignalDispositions {
  struct sigaction pipe {};
  struct sigaction child {};
};
// Asks, and makes SIGCHLD waitable. To be called first of all.
SignalDispositions take_dispositions();

struct ExecFailure {
  int error = 0;
};

std::variant<pid_t, ExecFailure> spawn(const ChildCommand& command, const BlockedSignals& signals,
                                       const SignalDispositions& dispositions);

struct ChildEnd {
  bool killed = false;
  int number = 0;  // the signal that killed it, or its exit code

  // As a shell would put it.
  int exit_code() const { return killed ? 128 + number : number; }
};

// Calls `meanwhile` every `poll_ms`.
ChildEnd wait_for(pid_t child, const BlockedSignals& signals, int poll_ms,
                  const std::function<void()>& meanwhile);

}  // namespace slabscope
