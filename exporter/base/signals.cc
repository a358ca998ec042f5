// SPDX-License-Identifier: MIT

#include "exporter/base/signals.h"

#include <ctime>

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

siginfo_t BlockedSignals::wait(int milliseconds) const {
  siginfo_t info{};
  const timespec timeout = {milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
  if (sigtimedwait(&blocked_, &info, &timeout) < 0) {
    info.si_signo = 0;
  }
  return info;
}

}  // namespace slabscope
