// SPDX-License-Identifier: MIT

#include "exporter/source/stopped_threads.h"

#include <dirent.h>
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>

namespace slabscope {
namespace {

// How long the process may be held while one of its threads does not come.
constexpr std::chrono::milliseconds kStopPatience{300};
constexpr int kMostSignals = 256;  // delivered to one thread before it stops for us
constexpr int kMostRounds = 64;    // of threads that start while we seize

std::vector<pid_t> thread_ids(pid_t pid) {
  std::vector<pid_t> tids;
  DIR* directory = opendir(("/proc/" + std::to_string(pid) + "/task").c_str());
  if (directory == nullptr) {
    return tids;
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own.
  while (const dirent* entry = readdir(directory)) {
    pid_t tid = 0;
    const char* end = entry->d_name + strlen(entry->d_name);
    if (std::from_chars(entry->d_name, end, tid).ptr == end && tid > 0) {
      tids.push_back(tid);
    }
  }
  closedir(directory);
  return tids;
}

// A field of /proc/PID/task/TID/status, "" if there is none.
std::string status_field(pid_t pid, pid_t tid, const char* name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name)) {
      const size_t value = line.find_first_not_of(": \t", strlen(name));
      return value == std::string::npos ? "" : line.substr(value);
    }
  }
  return "";
}

Failure refused(pid_t pid, pid_t tid, int error) {
  const std::string tracer = status_field(pid, tid, "TracerPid");
  std::string why = "ptrace is refused (" + std::generic_category().message(error) + ")";
  if (!tracer.empty() && tracer != "0") {
    why = "process " + tracer + " traces it already";
  } else if (error == EPERM) {
    why += "; try as root or as its owner, and see /proc/sys/kernel/yama/ptrace_scope";
  }
  return {ErrorCode::kUnreadable, why};
}

bool is_over(pid_t pid, pid_t tid) {
  const std::string state = status_field(pid, tid, "State");
  return state.empty() || state[0] == 'Z' || state[0] == 'X';
}

ThreadEvent event_of(int status) {
  using Kind = ThreadEvent::Kind;
  const int signal = status & 0xff;
  switch (status >> 8) {
    case PTRACE_EVENT_STOP:
      return {Kind::kStop, 0};
    case PTRACE_EVENT_CLONE:
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
      return {Kind::kClone, 0};
    default:
      break;
  }
  return signal == (SIGTRAP | 0x80) ? ThreadEvent{Kind::kSystemCall, 0}
                                    : ThreadEvent{Kind::kSignal, signal};
}

// Every word of a register set; empty if the kernel has none.
std::vector<uint64_t> register_set(pid_t tid, int type) {
  std::vector<uint64_t> words(2048);
  iovec io = {words.data(), words.size() * sizeof(uint64_t)};
  if (ptrace(PTRACE_GETREGSET, tid, type, &io) != 0) {
    return {};
  }
  words.resize(io.iov_len / sizeof(uint64_t));
  return words;
}

#if defined(__x86_64__)
// System calls that fail with EINTR when their thread was merely stopped, and that can be made
// again as they were (signal(7), on calls interrupted by stop signals).
constexpr std::array kNeverRestarted = {
    SYS_read,       SYS_recvfrom,        SYS_recvmsg,     SYS_accept,
    SYS_accept4,    SYS_epoll_wait,      SYS_epoll_pwait, SYS_semop,
    SYS_semtimedop, SYS_rt_sigtimedwait, SYS_io_getevents};

// Makes the kernel restart such a call, unless a signal handler runs first: then it fails as it
// would have. Takes hold when the thread goes on, whoever lets it.
void restart_if_stopped(pid_t tid, user_regs_struct& registers) {
  constexpr int64_t kRestartNoHandler = 514;
  const auto number = static_cast<int64_t>(registers.orig_rax);
  if (static_cast<int64_t>(registers.rax) != -EINTR ||
      std::find(kNeverRestarted.begin(), kNeverRestarted.end(), number) == kNeverRestarted.end()) {
    return;
  }
  registers.rax = static_cast<uint64_t>(-kRestartNoHandler);
  ptrace(PTRACE_SETREGS, tid, nullptr, &registers);
}
#endif

}  // namespace

ThreadEvent wait_thread(pid_t tid, Clock::time_point deadline, bool keep_exit_status) {
  using Kind = ThreadEvent::Kind;
  for (unsigned round = 0;; ++round) {
    siginfo_t info{};
    constexpr int kPeek = WEXITED | WSTOPPED | __WALL | WNOHANG | WNOWAIT;
    if (waitid(P_PID, static_cast<id_t>(tid), &info, kPeek) != 0 && errno != EINTR) {
      return {Kind::kGone, 0};
    }
    if (info.si_pid == tid) {
      const bool ended = info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED;
      if (!ended || !keep_exit_status) {
        waitpid(tid, nullptr, __WALL | WNOHANG);
      }
      return ended ? ThreadEvent{Kind::kGone, 0} : event_of(info.si_status);
    }
    if (Clock::now() > deadline) {
      return {Kind::kTimeout, 0};
    }
    if (round < 64) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
}

StoppedThreads::StoppedThreads(StoppedThreads&& other) noexcept
    : pid_(other.pid_),
      exit_status_(other.exit_status_),
      held_(std::move(other.held_)),
      threads_(std::move(other.threads_)),
      since_(other.since_) {
  other.held_.clear();
}

std::optional<Failure> StoppedThreads::seize(pid_t tid) {
  if (ptrace(PTRACE_SEIZE, tid, nullptr, PTRACE_O_TRACESYSGOOD) == 0) {
    held_.push_back({tid, false});
    return std::nullopt;
  }
  const int error = errno;
  if (error == ESRCH || is_over(pid_, tid)) {
    return std::nullopt;  // it ended meanwhile
  }
  return refused(pid_, tid, error);
}

std::optional<Failure> StoppedThreads::seize_new(const std::vector<pid_t>& tids) {
  const size_t first = held_.size();
  for (const pid_t tid : tids) {
    const bool known =
        std::any_of(held_.begin(), held_.end(), [&](const Held& h) { return h.tid == tid; });
    if (known) {
      continue;
    }
    if (std::optional<Failure> failure = seize(tid)) {
      return failure;
    }
  }
  if (held_.size() > first && since_ == Clock::time_point{}) {
    since_ = Clock::now();
  }
  for (size_t i = first; i < held_.size(); ++i) {
    ptrace(PTRACE_INTERRUPT, held_[i].tid, nullptr, nullptr);
  }
  return std::nullopt;
}

std::optional<Failure> StoppedThreads::wait_all() {
  using Kind = ThreadEvent::Kind;
  const Clock::time_point deadline = since_ + kStopPatience;
  for (Held& held : held_) {
    for (int signals = 0; !held.stopped;) {
      const ThreadEvent event =
          wait_thread(held.tid, deadline, keep_exit_status() && held.tid == pid_);
      if (event.kind == Kind::kGone) {
        held.tid = 0;
        break;
      }
      if (event.kind == Kind::kTimeout || signals > kMostSignals) {
        return Failure{ErrorCode::kSystem,
                       "thread " + std::to_string(held.tid) +
                           " does not stop: it waits in the kernel for a device or a vfork child"};
      }
      held.stopped = event.kind == Kind::kStop;
      if (!held.stopped) {
        ++signals;
        // Delivered as it would have been; then the thread stops, in its handler perhaps.
        ptrace(PTRACE_INTERRUPT, held.tid, nullptr, nullptr);
        ptrace(PTRACE_CONT, held.tid, nullptr, event.signal);
      }
    }
  }
  std::erase_if(held_, [](const Held& held) { return held.tid == 0; });
  return std::nullopt;
}

std::optional<Failure> StoppedThreads::read_registers() {
  for (const Held& held : held_) {
    ThreadContext context;
    context.tid = held.tid;
    context.is_main = held.tid == pid_;
    context.words = register_set(held.tid, NT_PRSTATUS);
    if (context.words.size() * sizeof(uint64_t) < sizeof(context.registers)) {
      return Failure{ErrorCode::kSystem,
                     "the registers of thread " + std::to_string(held.tid) + " cannot be read"};
    }
    std::memcpy(&context.registers, context.words.data(), sizeof(context.registers));
#if defined(__x86_64__)
    restart_if_stopped(held.tid, context.registers);
    context.stack_pointer = context.registers.rsp;
    context.thread_pointer = context.registers.fs_base;
    context.in_system_call = static_cast<int64_t>(context.registers.orig_rax) >= 0;
    const std::vector<uint64_t> more = register_set(held.tid, NT_X86_XSTATE);
#elif defined(__aarch64__)
    context.stack_pointer = context.registers.sp;
    const std::vector<uint64_t> tls = register_set(held.tid, NT_ARM_TLS);
    context.thread_pointer = tls.empty() ? 0 : tls[0];
    const std::vector<uint64_t> more = register_set(held.tid, NT_PRFPREG);
#endif
    context.words.insert(context.words.end(), more.begin(), more.end());
    threads_.push_back(std::move(context));
  }
  return std::nullopt;
}

Result<StoppedThreads> StoppedThreads::stop(pid_t pid, ExitStatus exit_status) {
  StoppedThreads stopped(pid, exit_status);
  for (int round = 0; round < kMostRounds; ++round) {
    const size_t before = stopped.held_.size();
    if (std::optional<Failure> failure = stopped.seize_new(thread_ids(pid))) {
      return *failure;
    }
    if (stopped.held_.size() == before) {
      break;
    }
    if (std::optional<Failure> failure = stopped.wait_all()) {
      return *failure;
    }
  }
  if (stopped.held_.empty()) {
    return Failure{ErrorCode::kNotFound, "process " + std::to_string(pid) + " has ended"};
  }
  if (std::optional<Failure> failure = stopped.read_registers()) {
    return *failure;
  }
  return stopped;
}

Result<StoppedThreads> StoppedThreads::stop_one(pid_t pid, ExitStatus exit_status) {
  std::vector<pid_t> tids = thread_ids(pid);
  // One that sleeps is in a system call, where a thread is best interrupted.
  std::stable_partition(tids.begin(), tids.end(), [&](pid_t tid) {
    return status_field(pid, tid, "State").starts_with('S');
  });
  for (const pid_t tid : tids) {
    StoppedThreads stopped(pid, exit_status);
    std::optional<Failure> failure = stopped.seize_new({tid});
    if (!failure) {
      failure = stopped.wait_all();
    }
    if (!failure && !stopped.held_.empty() && !stopped.read_registers()) {
      return stopped;
    }
  }
  return Failure{ErrorCode::kNotFound, "no thread of process " + std::to_string(pid) + " stops"};
}

void StoppedThreads::detach() {
  for (const Held& held : held_) {
    if (held.tid == 0) {
      continue;
    }
    // Only a stopped thread can be let go; one that is still on its way stops first.
    for (int tries = 0; tries < 200; ++tries) {
      if (ptrace(PTRACE_DETACH, held.tid, nullptr, nullptr) == 0) {
        break;
      }
      const ThreadEvent event = wait_thread(held.tid, Clock::now() + std::chrono::milliseconds(5),
                                            keep_exit_status() && held.tid == pid_);
      if (event.kind == ThreadEvent::Kind::kGone) {
        break;
      }
      if (event.kind == ThreadEvent::Kind::kSignal) {
        ptrace(PTRACE_DETACH, held.tid, nullptr, event.signal);
        break;
      }
    }
  }
  held_.clear();
}

}  // namespace slabscope
