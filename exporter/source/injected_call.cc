// SPDX-License-Identifier: MIT

#include "exporter/source/injected_call.h"

#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <system_error>

#include "exporter/source/memory_source.h"

namespace slabscope {

#if defined(__x86_64__)

namespace {

constexpr uint32_t kMostStubBytes = 1024;
constexpr int kMostStops = 64;
constexpr std::chrono::seconds kCallPatience{5};
constexpr int64_t kRestartSystemCall = 219;

// Bad magic in these numbers would be ours: they are the kernel's, for no header has them.
constexpr int64_t kRestartSys = 512;
constexpr int64_t kRestartNoIntr = 513;
constexpr int64_t kRestartNoHand = 514;
constexpr int64_t kRestartBlock = 516;

// As the stub pops it.
struct StubFrame {
  uint64_t mask;
  uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, flags, rip;
};

Failure failed(const char* what) {
  return {ErrorCode::kSystem, std::string(what) + ": " + std::generic_category().message(errno)};
}

// What the kernel would do to the registers before the thread goes on: restart what it interrupted.
user_regs_struct restarted(user_regs_struct registers) {
  if (static_cast<int64_t>(registers.orig_rax) < 0) {
    return registers;
  }
  switch (-static_cast<int64_t>(registers.rax)) {
    case kRestartSys:
    case kRestartNoIntr:
    case kRestartNoHand:
      registers.rax = registers.orig_rax;
      registers.rip -= 2;
      break;
    case kRestartBlock:
      registers.rax = kRestartSystemCall;
      registers.rip -= 2;
      break;
    default:
      break;
  }
  return registers;
}

StubFrame frame_of(const user_regs_struct& stopped, uint64_t mask) {
  const user_regs_struct r = restarted(stopped);
  return {mask, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp,    r.r8,
          r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.eflags, r.rip};
}

bool write_memory(pid_t pid, uint64_t address, const void* from, size_t bytes) {
  const iovec local = {const_cast<void*>(from), bytes};
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address of another process.
  const iovec remote = {reinterpret_cast<void*>(address), bytes};
  return process_vm_writev(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes);
}

// Runs the thread to the end of its next system call.
Result<InjectedResult> run_call(const StoppedThreads& stopped, pid_t tid) {
  using Kind = ThreadEvent::Kind;
  InjectedResult result;
  const Clock::time_point deadline = Clock::now() + kCallPatience;
  int calls = 0;
  for (int stops = 0; stops < kMostStops; ++stops) {
    if (ptrace(PTRACE_SYSCALL, tid, nullptr, nullptr) != 0) {
      return failed("a thread cannot be run");
    }
    const ThreadEvent event =
        wait_thread(tid, deadline, stopped.keep_exit_status() && tid == stopped.pid());
    if (event.kind == Kind::kGone) {
      return Failure{ErrorCode::kNotFound, "the process has ended"};
    }
    if (event.kind == Kind::kTimeout) {
      return Failure{ErrorCode::kSystem, "a thread does not come back from a system call"};
    }
    if (event.kind == Kind::kClone) {
      unsigned long child = 0;
      ptrace(PTRACE_GETEVENTMSG, tid, nullptr, &child);
      result.new_child = static_cast<pid_t>(child);
    }
    if (event.kind == Kind::kSystemCall && ++calls == 2) {
      user_regs_struct after{};
      if (ptrace(PTRACE_GETREGS, tid, nullptr, &after) != 0) {
        return failed("registers cannot be read");
      }
      result.value = static_cast<int64_t>(after.rax);
      return result;
    }
  }
  return Failure{ErrorCode::kSystem, "a thread is stopped by others again and again"};
}

// Puts the thread back to where it was, in a stop after which the kernel restarts system calls.
void put_back(const StoppedThreads& stopped, const ThreadContext& thread, uint64_t mask) {
  user_regs_struct registers = thread.registers;
  // First of all: from here on the kernel looks at the registers before the thread goes on, so that
  // they may say "restart" even if we are killed before the next line.
  ptrace(PTRACE_INTERRUPT, thread.tid, nullptr, nullptr);
  ptrace(PTRACE_SETSIGMASK, thread.tid, sizeof(mask), &mask);
  ptrace(PTRACE_SETREGS, thread.tid, nullptr, &registers);
  ptrace(PTRACE_SETOPTIONS, thread.tid, nullptr, PTRACE_O_TRACESYSGOOD);
  int signal = 0;
  for (int stops = 0; stops < kMostStops; ++stops) {
    ptrace(PTRACE_INTERRUPT, thread.tid, nullptr, nullptr);
    ptrace(PTRACE_CONT, thread.tid, nullptr, signal);
    const ThreadEvent event =
        wait_thread(thread.tid, Clock::now() + kCallPatience,
                    stopped.keep_exit_status() && thread.tid == stopped.pid());
    if (event.kind != ThreadEvent::Kind::kSignal) {
      return;
    }
    signal = event.signal;  // delivered as it would have been; then the thread stops in its handler
  }
}

bool has_seccomp(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("Seccomp:")) {
      return line.find_first_of("12", 8) != std::string::npos;
    }
  }
  return true;
}

// In a restartable sequence, which the kernel would forget if it saw the thread elsewhere.
bool in_sequence(const StoppedThreads& stopped, const ThreadContext& thread) {
  constexpr int kGetRseqConfiguration = 0x420f;
  struct {
    uint64_t pointer;
    uint32_t size, signature, flags, pad;
  } rseq{};
  if (ptrace(static_cast<__ptrace_request>(kGetRseqConfiguration), thread.tid, sizeof(rseq),
             &rseq) <= 0 ||
      rseq.pointer == 0) {
    return false;
  }
  constexpr uint64_t kSequence = 8;  // offset of rseq_cs
  return ProcessMemory(stopped.pid()).value<uint64_t>(rseq.pointer + kSequence).value_or(0) != 0;
}

}  // namespace

const ThreadContext* thread_for_calls(const StoppedThreads& stopped, std::string& why) {
  if (has_seccomp(stopped.pid())) {
    why = "a seccomp filter may forbid it to fork";
    return nullptr;
  }
  for (const ThreadContext& thread : stopped.threads()) {
    if (thread.in_system_call) {
      return &thread;
    }
  }
  for (const ThreadContext& thread : stopped.threads()) {
    if (!in_sequence(stopped, thread)) {
      return &thread;
    }
  }
  why = "every thread is in a restartable sequence";
  return nullptr;
}

Result<InjectedResult> inject_call(const StoppedThreads& stopped, const ThreadContext& thread,
                                   const abi::HeapLayout& layout, const InjectedCall& call) {
  const ProcessMemory memory(stopped.pid());
  std::array<unsigned char, 2> code{};
  constexpr std::array<unsigned char, 2> kSystemCall = {0x0f, 0x05};
  if (layout.snapshot_stub == 0 || layout.snapshot_stub_bytes > kMostStubBytes ||
      memory.read(layout.snapshot_stub, code.data(), code.size()) != code.size() ||
      code != kSystemCall) {
    return Failure{ErrorCode::kCorrupt, "the shim's code for snapshots is not where it says"};
  }
  uint64_t mask = 0;
  if (ptrace(PTRACE_GETSIGMASK, thread.tid, sizeof(mask), &mask) != 0) {
    return failed("the signal mask cannot be read");
  }
  const StubFrame frame = frame_of(thread.registers, mask);
  user_regs_struct registers = thread.registers;
  registers.rsp -= kRedZone + sizeof(frame);
  if (!write_memory(stopped.pid(), registers.rsp, &frame, sizeof(frame))) {
    return Failure{ErrorCode::kSystem, "no room on a thread's stack"};
  }
  registers.rip = layout.snapshot_stub;
  registers.orig_rax = ~uint64_t{0};  // no system call to restart here
  registers.rax = call.number;
  registers.rdi = call.arguments[0];
  registers.rsi = call.arguments[1];
  registers.rdx = call.arguments[2];
  registers.r10 = call.arguments[3];
  registers.r8 = call.arguments[4];
  constexpr uint64_t kTrapFlag = 0x100;
  constexpr uint64_t kDirectionFlag = 0x400;
  registers.eflags &= ~(kTrapFlag | kDirectionFlag);
  // A new process is traced, and stopped, from its first moment.
  constexpr long kOptions =
      PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
  if (ptrace(PTRACE_SETOPTIONS, thread.tid, nullptr, kOptions) != 0 ||
      ptrace(PTRACE_SETREGS, thread.tid, nullptr, &registers) != 0) {
    return failed("registers cannot be set");
  }
  const uint64_t all = ~uint64_t{0};
  ptrace(PTRACE_SETSIGMASK, thread.tid, sizeof(all), &all);
  Result<InjectedResult> result = run_call(stopped, thread.tid);
  put_back(stopped, thread, mask);
  return result;
}

#else

const ThreadContext* thread_for_calls(const StoppedThreads&, std::string& why) {
  why = "snapshots are made on x86-64 alone";
  return nullptr;
}

Result<InjectedResult> inject_call(const StoppedThreads&, const ThreadContext&,
                                   const abi::HeapLayout&, const InjectedCall&) {
  return Failure{ErrorCode::kSystem, "snapshots are made on x86-64 alone"};
}

#endif

}  // namespace slabscope
