// SPDX-License-Identifier: MIT

#include "exporter/base/signals.h"

namespace slabscope {

BlockedSignals::BlockedSignals(std::initializer_list<int> signals) {
  sigemptyset(&blocked_);
  for (const int signal : signals) {
    sigaddset(&blocked_, signal);
  }
  pthread_sigmask(SIG_BLOCK, &blocked_, &previous_);
}

BlockedSignals::~BlockedSignals() {
  pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

siginfo_t BlockedSignals::wait() const {
  siginfo_t info{};
  while (sigwaitinfo(&blocked_, &info) < 0) {
  }
  return info;
}

}  // namespace slabscope
