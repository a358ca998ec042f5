// SPDX-License-Identifier: MIT
//
// ProcessSnapshot: the memory of a process as it was at one moment, while the process runs on.
//
//   stop all threads ─► registers ─► clone() by one of them ─► all go on      the pause: the fork
//                                        └► the copy, traced, never runs ─► read ─► killed, reaped
//
// The copy is a child of the process with exit signal 0: no SIGCHLD, and not seen by its wait
// calls. It dies with this program (PTRACE_O_EXITKILL). At the end one thread of the process
// reaps it by a second injected call, which takes microseconds. Where there is no copy to be had,
// the process itself is read while it is stopped, and the pause is as long as the reading.

#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "diag/abi/heap_layout.h"
#include "exporter/base/result.h"
#include "exporter/source/memory_source.h"
#include "exporter/source/snapshot.h"
#include "exporter/source/stopped_threads.h"

namespace slabscope {

class ProcessSnapshot {
 public:
  // Of the target's process. Fails where ptrace is refused, where its pid is not its own, or where
  // its shim has no description of its heap.
  static Result<std::unique_ptr<ProcessSnapshot>> take(const TargetInfo& target,
                                                       ExitStatus exit_status);

  ProcessSnapshot(const ProcessSnapshot&) = delete;
  ProcessSnapshot& operator=(const ProcessSnapshot&) = delete;
  ~ProcessSnapshot();

  const MemorySource& memory() const { return memory_; }
  const abi::HeapLayout& layout() const { return layout_; }
  const std::vector<ThreadContext>& threads() const { return threads_; }
  const std::vector<Mapping>& mappings() const { return mappings_; }
  uint64_t taken_monotonic_ns() const { return taken_ns_; }

  // Why the process itself is read, and waits; empty if there is a copy.
  const std::string& in_place_reason() const { return in_place_reason_; }
  // How long the process stood still: so far, if it still does.
  std::chrono::nanoseconds pause() const;

  // The memory is not needed any more: the process goes on, nothing is left of the copy.
  void release();

 private:
  ProcessSnapshot(pid_t pid, ExitStatus exit_status, const abi::HeapLayout& layout)
      : pid_(pid), exit_status_(exit_status), layout_(layout), memory_(pid) {}
  void copy();
  void reap();
  bool reap_one(const StoppedThreads& stopped, const ThreadContext& thread, pid_t copy) const;

  pid_t pid_;
  ExitStatus exit_status_;
  abi::HeapLayout layout_;
  pid_t copy_ = 0;
  ProcessMemory memory_;
  std::optional<StoppedThreads> stopped_;
  std::vector<ThreadContext> threads_;
  std::vector<Mapping> mappings_;
  std::string in_place_reason_;
  std::chrono::nanoseconds pause_{};
  uint64_t taken_ns_ = 0;
};

}  // namespace slabscope
