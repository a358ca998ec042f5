// SPDX-License-Identifier: MIT

#include "exporter/base/child.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace slabscope {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> all;
  all.reserve(strings.size() + 1);
  for (const std::string& text : strings) {
    all.push_back(const_cast<char*>(text.c_str()));
  }
  all.push_back(nullptr);
  return all;
}

// In the child. Only async-signal-safe calls, for the parent may have threads.
[[noreturn]] void execute(const std::vector<char*>& arguments,
                          const std::vector<char*>& environment, const sigset_t& mask,
                          const SignalDispositions& dispositions, int failure_fd) {
  sigaction(SIGPIPE, &dispositions.pipe, nullptr);
  sigaction(SIGCHLD, &dispositions.child, nullptr);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  execvpe(arguments[0], arguments.data(), environment.data());
  const int error = errno;
  [[maybe_unused]] const ssize_t written = write(failure_fd, &error, sizeof(error));
  _exit(127);
}

}  // namespace

SignalDispositions take_dispositions() {
  SignalDispositions dispositions;
  sigaction(SIGPIPE, nullptr, &dispositions.pipe);
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &standard, &dispositions.child);
  return dispositions;
}

std::variant<pid_t, ExecFailure> spawn(const ChildCommand& command, const BlockedSignals& signals,
                                       const SignalDispositions& dispositions) {
  const std::vector<char*> arguments = pointers(command.arguments);
  const std::vector<char*> environment = pointers(command.environment);
  int failure[2];
  if (pipe2(failure, O_CLOEXEC) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe");
  }
  const pid_t child = fork();
  if (child == 0) {
    execute(arguments, environment, signals.previous(), dispositions, failure[1]);
  }
  const int fork_error = errno;
  close(failure[1]);
  int error = 0;
  ssize_t got = 0;
  while (child > 0 && (got = read(failure[0], &error, sizeof(error))) < 0 && errno == EINTR) {
  }
  close(failure[0]);
  if (child < 0) {
    throw std::system_error(fork_error, std::generic_category(), "fork");
  }
  if (got == sizeof(error)) {
    waitpid(child, nullptr, 0);
    return ExecFailure{error};
  }
  return child;
}

ChildEnd wait_for(pid_t child, const BlockedSignals& signals, int poll_ms,
                  const std::function<void()>& meanwhile) {
  for (;;) {
    const siginfo_t info = signals.wait(poll_ms);
    if (info.si_signo == 0) {
      meanwhile();
      continue;
    }
    if (info.si_signo != SIGCHLD) {
      if (info.si_code <= 0) {  // sent by a process, not by the terminal
        kill(child, info.si_signo);
      }
      continue;
    }
    int status = 0;
    if (waitpid(child, &status, WNOHANG) == child) {
      return WIFSIGNALED(status) ? ChildEnd{true, WTERMSIG(status)}
                                 : ChildEnd{false, WEXITSTATUS(status)};
    }
  }
}

}  // namespace slabscope
