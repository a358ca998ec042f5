// SPDX-License-Identifier: MIT
//
// ExitCheck: the leak check of a child at its end, by the `slabscope run` that started it.
//
//   poll() ─► exit_phase in the file: waiting ─► looking ─► copy, check, copy gone ─► released
//
// The child waits in its exit handler until we have looked (preload/exit_wait.h): it must be there
// to reap the copy. The word is read and written through the file; no memory is shared with us.
// Called from: commands/run.cc, from its only thread, for ptrace answers to one thread alone.

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "exporter/analysis/leak_check.h"

namespace slabscope {

class ExitCheck {
 public:
  ExitCheck(pid_t child, uint64_t started_ns, RootSet roots)
      : child_(child), started_ns_(started_ns), roots_(roots) {}
  ~ExitCheck();
  ExitCheck(const ExitCheck&) = delete;
  ExitCheck& operator=(const ExitCheck&) = delete;

  // Looks whether the child waits, and checks it if so. To be called every kPollMs.
  static constexpr int kPollMs = 10;
  void poll();

  // What was found; null if the child never waited.
  const LeakCheck* result() const { return result_ ? &*result_ : nullptr; }

 private:
  void check();
  void find_file();
  void close_file();
  bool file_is_abandoned() const;
  void write_phase(uint32_t phase) const;

  pid_t child_;
  uint64_t started_ns_;
  RootSet roots_;
  int fd_ = -1;
  std::string path_;
  unsigned polls_ = 0;
  std::optional<LeakCheck> result_;
};

}  // namespace slabscope
