// SPDX-License-Identifier: MIT
//
// BlockedSignals: signals taken one by one, by whoever waits, instead of by handlers.
//
// Made before any thread, it holds for all of them; gone, it restores the mask it found.

#pragma once

#include <csignal>
#include <initializer_list>

namespace slabscope {

class BlockedSignals {
 public:
  BlockedSignals(std::initializer_list<int> signals);
  ~BlockedSignals();
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  // The next of the signals, and where it came from.
  siginfo_t wait() const;
  // The same, or si_signo 0 when `milliseconds` have passed without one.
  siginfo_t wait(int milliseconds) const;

  // The mask that was in force before, for a child process.
  const sigset_t& previous() const { return previous_; }

 private:
  sigset_t blocked_;
  sigset_t previous_;
};

}  // namespace slabscope
