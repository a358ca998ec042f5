// SPDX-License-Identifier: MIT
//
// StoppedThreads: all threads of another process, held by ptrace, with their registers.
//
//   SEIZE all ─► INTERRUPT all ─► wait ─► look for new ones, until there are none ─► registers
//      the process runs      │◄────────── the process is stopped ──────────►│ detach
//
// SEIZE sends no signal and INTERRUPT stops a thread inside its system call, which the kernel
// restarts by itself when the thread goes on. A signal that comes first is delivered first. When
// this program dies the kernel lets all threads run on: nothing here may need a tidy end.
//
// ptrace is a matter between two threads: one thread of ours must make all the calls.

#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "exporter/base/result.h"

namespace slabscope {

// Bytes below the stack pointer that a function may use; by the ABI of x86-64.
inline constexpr uint64_t kRedZone = 128;

// What one thread held.
struct ThreadContext {
  pid_t tid = 0;
  bool is_main = false;
  user_regs_struct registers{};
  std::vector<uint64_t> words;  // every register, vector ones too, as they may hold pointers
  uint64_t stack_pointer = 0;
  uint64_t thread_pointer = 0;
  bool in_system_call = false;
};

// Who reaps the process when it ends meanwhile.
enum class ExitStatus : uint8_t {
  kOurs,      // this program is its parent and wants the status later
  kOfOthers,  // somebody else's child
};

// What a wait for one stopped thread found.
struct ThreadEvent {
  enum class Kind : uint8_t { kTimeout, kGone, kStop, kSignal, kSystemCall, kClone };
  Kind kind = Kind::kTimeout;
  int signal = 0;
};

using Clock = std::chrono::steady_clock;

// Waits for `tid` (traced by this thread) until the deadline. The status of a process that ended is
// consumed, but for kOurs and the process itself.
ThreadEvent wait_thread(pid_t tid, Clock::time_point deadline, bool keep_exit_status);

class StoppedThreads {
 public:
  // Stops all threads of `pid`, or says why not; then they run as before.
  static Result<StoppedThreads> stop(pid_t pid, ExitStatus exit_status);
  // Stops one thread of `pid`, whichever is best to lend a hand.
  static Result<StoppedThreads> stop_one(pid_t pid, ExitStatus exit_status);

  StoppedThreads(StoppedThreads&& other) noexcept;
  StoppedThreads& operator=(StoppedThreads&&) = delete;
  ~StoppedThreads() { detach(); }

  pid_t pid() const { return pid_; }
  const std::vector<ThreadContext>& threads() const { return threads_; }
  bool keep_exit_status() const { return exit_status_ == ExitStatus::kOurs; }
  Clock::time_point since() const { return since_; }

  // Lets all threads go on.
  void detach();

 private:
  StoppedThreads(pid_t pid, ExitStatus exit_status) : pid_(pid), exit_status_(exit_status) {}
  std::optional<Failure> seize(pid_t tid);
  std::optional<Failure> seize_new(const std::vector<pid_t>& tids);
  std::optional<Failure> wait_all();
  std::optional<Failure> read_registers();

  struct Held {
    pid_t tid = 0;
    bool stopped = false;
  };

  pid_t pid_;
  ExitStatus exit_status_;
  std::vector<Held> held_;
  std::vector<ThreadContext> threads_;
  Clock::time_point since_{};
};

}  // namespace slabscope
