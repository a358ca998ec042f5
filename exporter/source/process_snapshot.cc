// SPDX-License-Identifier: MIT

#include "exporter/source/process_snapshot.h"

#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <exception>
#include <filesystem>
#include <iterator>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "exporter/base/clock.h"
#include "exporter/base/whole_file.h"
#include "exporter/source/injected_call.h"
#include "exporter/source/process_info.h"

namespace slabscope {
namespace {

constexpr int kStopTries = 4;
constexpr int kReapTries = 20;
constexpr std::chrono::milliseconds kBetweenTries{20};

Result<abi::HeapLayout> read_layout(const TargetInfo& target) {
  if (target.heap_layout == 0) {
    return Failure{ErrorCode::kVersionMismatch,
                   "its libslabscope.so is of a version that does not describe its heap"};
  }
  errno = 0;
  const auto layout =
      ProcessMemory(static_cast<pid_t>(target.pid)).value<abi::HeapLayout>(target.heap_layout);
  if (!layout && errno == EPERM) {
    return Failure{ErrorCode::kUnreadable,
                   "ptrace is refused (Operation not permitted); try as root or as its owner, and "
                   "see /proc/sys/kernel/yama/ptrace_scope"};
  }
  if (!layout) {
    return Failure{ErrorCode::kUnreadable,
                   "its memory cannot be read (" + std::generic_category().message(errno) + ")"};
  }
  if (layout->magic != abi::kHeapLayoutMagic || layout->version != abi::kHeapLayoutVersion ||
      layout->bytes != sizeof(abi::HeapLayout)) {
    return Failure{ErrorCode::kVersionMismatch,
                   "its heap is described in another version than this slabscope reads"};
  }
  return *layout;
}

// While the process stands still we do not wait behind others for a processor, if we may say so.
class Hurry {
 public:
  Hurry() : before_(getpriority(PRIO_PROCESS, 0)) { setpriority(PRIO_PROCESS, 0, kFirst); }
  ~Hurry() { setpriority(PRIO_PROCESS, 0, before_); }
  Hurry(const Hurry&) = delete;
  Hurry& operator=(const Hurry&) = delete;

 private:
  static constexpr int kFirst = -20;
  int before_;
};

// Zombies that are copies of the process, left by checks that were killed: nobody else gives a
// child the exit signal 0.
std::vector<pid_t> dead_copies(pid_t pid) {
  constexpr size_t kState = 0;  // of what follows the name in /proc/PID/stat
  constexpr size_t kParent = 1;
  constexpr size_t kExitSignal = 35;
  std::vector<pid_t> copies;
  std::error_code error;
  std::filesystem::directory_iterator entry("/proc", error);
  for (; entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.empty() || name.find_first_not_of("0123456789") != std::string::npos) {
      continue;
    }
    const std::string text = read_whole_file(entry->path() / "stat").value_or("");
    const size_t end = text.rfind(')');
    std::istringstream rest(end == std::string::npos ? "" : text.substr(end + 1));
    const std::vector<std::string> fields{std::istream_iterator<std::string>(rest), {}};
    if (fields.size() > kExitSignal && fields[kState] == "Z" &&
        fields[kParent] == std::to_string(pid) && fields[kExitSignal] == "0") {
      copies.push_back(static_cast<pid_t>(std::stol(name)));
    }
  }
  return copies;
}

// A thread may be held up in the kernel for a moment, by a vfork child for example.
Result<StoppedThreads> stop_patiently(pid_t pid, ExitStatus exit_status) {
  for (int tries = 1;; ++tries) {
    Result<StoppedThreads> stopped = StoppedThreads::stop(pid, exit_status);
    if (stopped || stopped.failure().code != ErrorCode::kSystem || tries == kStopTries) {
      return stopped;
    }
    std::this_thread::sleep_for(kBetweenTries * tries);
  }
}

}  // namespace

Result<std::unique_ptr<ProcessSnapshot>> ProcessSnapshot::take(const TargetInfo& target,
                                                               ExitStatus exit_status) {
  if (!is_mapped_by_its_pid(target)) {
    return Failure{ErrorCode::kUnreadable,
                   "/proc/" + std::to_string(target.pid) +
                       " is not this process or cannot be read: it belongs to another user, or to "
                       "another pid namespace"};
  }
  const auto pid = static_cast<pid_t>(target.pid);
  const Result<abi::HeapLayout> layout = read_layout(target);
  if (!layout) {
    return layout.failure();
  }
  std::optional<Hurry> hurry(std::in_place);
  Result<StoppedThreads> stopped = stop_patiently(pid, exit_status);
  if (!stopped) {
    return stopped.failure();
  }
  std::unique_ptr<ProcessSnapshot> snapshot(new ProcessSnapshot(pid, exit_status, *layout));
  snapshot->threads_ = stopped->threads();
  snapshot->taken_ns_ = monotonic_ns();
  snapshot->stopped_.emplace(std::move(*stopped));
  snapshot->copy();
  if (snapshot->copy_ != 0) {
    snapshot->stopped_->detach();
    snapshot->pause_ = Clock::now() - snapshot->stopped_->since();
    snapshot->stopped_.reset();
    snapshot->memory_ = ProcessMemory(snapshot->copy_);
    hurry.reset();
  }
  snapshot->mappings_ = read_mappings(snapshot->copy_ != 0 ? snapshot->copy_ : pid);
  return snapshot;
}

void ProcessSnapshot::copy() {
  const ThreadContext* thread = thread_for_calls(*stopped_, in_place_reason_);
  if (thread == nullptr) {
    return;
  }
  const InjectedCall fork = {.number = SYS_clone};
  const Result<InjectedResult> result = inject_call(*stopped_, *thread, layout_, fork);
  if (!result) {
    in_place_reason_ = result.failure().message;
    return;
  }
  if (result->value < 0 || result->new_child == 0) {
    in_place_reason_ =
        "it cannot fork: " + std::generic_category().message(static_cast<int>(-result->value));
    return;
  }
  // The event named it; it stops before its first instruction.
  if (wait_thread(result->new_child, Clock::now() + std::chrono::seconds(5), false).kind ==
      ThreadEvent::Kind::kGone) {
    in_place_reason_ = "its copy was killed";
    return;
  }
  copy_ = result->new_child;
  ptrace(PTRACE_SETOPTIONS, copy_, nullptr, PTRACE_O_EXITKILL);
}

std::chrono::nanoseconds ProcessSnapshot::pause() const {
  return stopped_ ? Clock::now() - stopped_->since() : pause_;
}

ProcessSnapshot::~ProcessSnapshot() {
  try {
    release();
  } catch (const std::exception&) {
    // No memory to take the copy away with: the process has a zombie until it ends.
  }
}

void ProcessSnapshot::release() {
  if (stopped_) {
    stopped_->detach();
    pause_ = Clock::now() - stopped_->since();
    stopped_.reset();
  }
  if (copy_ != 0) {
    kill(copy_, SIGKILL);
    wait_thread(copy_, Clock::now() + std::chrono::seconds(5), false);
    reap();
    copy_ = 0;
  }
}

// The copy is a zombie that only the process itself can take away, and so are those that killed
// checks have left. If the process has ended, init has done so.
void ProcessSnapshot::reap() {
  std::vector<pid_t> copies = dead_copies(pid_);
  if (std::find(copies.begin(), copies.end(), copy_) == copies.end()) {
    copies.push_back(copy_);
  }
  for (int tries = 0; tries < kReapTries && !copies.empty(); ++tries) {
    {
      const Result<StoppedThreads> stopped = StoppedThreads::stop_one(pid_, exit_status_);
      if (!stopped) {
        return;
      }
      std::string why;
      const ThreadContext* thread = thread_for_calls(*stopped, why);
      while (thread != nullptr && !copies.empty() && reap_one(*stopped, *thread, copies.back())) {
        copies.pop_back();
      }
    }
    if (!copies.empty()) {
      std::this_thread::sleep_for(kBetweenTries);
    }
  }
}

// True if the zombie is gone.
bool ProcessSnapshot::reap_one(const StoppedThreads& stopped, const ThreadContext& thread,
                               pid_t copy) const {
  const InjectedCall wait = {
      .number = SYS_wait4,
      .arguments = {static_cast<uint64_t>(copy), 0, uint64_t{__WALL | WNOHANG}, 0, 0}};
  const Result<InjectedResult> result = inject_call(stopped, thread, layout_, wait);
  return result && (result->value == copy || result->value == -ECHILD);
}

}  // namespace slabscope
