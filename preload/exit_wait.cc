// SPDX-License-Identifier: MIT

#include "preload/exit_wait.h"

#include <linux/futex.h>

#include <cstdint>

#include "preload/watch.h"
#include "slab/base/clock.h"
#include "slab/base/sys.h"

namespace slabscope {
namespace {

constexpr uint64_t kAnswerMs = 1000;
constexpr uint64_t kLookMs = 10'000;
constexpr long kSliceNs = 2'000'000;  // the tool writes to the file, which wakes nobody
constexpr uint64_t kNsPerMs = 1'000'000;

uint32_t phase(uint32_t& word) {
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}

// Sleeps while the word is `value`, for `most_ms` at most.
void sleep_while(uint32_t& word, abi::ExitPhase value, uint64_t most_ms) {
  const uint64_t begin = monotonic_ns();
  const auto number = static_cast<uint32_t>(value);
  // Rounds too: a clock that stands still must not hold the process up for ever.
  for (uint64_t round = 0; round <= most_ms; ++round) {
    if (phase(word) != number || monotonic_ns() - begin > most_ms * kNsPerMs)
      return;
    const struct { long seconds, nanoseconds; } slice = {0, kSliceNs};
    sys::raw(SYS_futex, sys::arg(&word), FUTEX_WAIT, static_cast<long>(number), sys::arg(&slice));
  }
}

}  // namespace

void wait_for_watcher() {
  abi::Header& header = *g_watch.file.header();
  if (g_options.watcher == 0 || header.parent_pid != g_options.watcher || !g_watch.file.shared())
    return;
  uint32_t& word = header.exit_phase;
  __atomic_store_n(&word, static_cast<uint32_t>(abi::ExitPhase::kWaiting), __ATOMIC_RELEASE);
  sleep_while(word, abi::ExitPhase::kWaiting, kAnswerMs);
  sleep_while(word, abi::ExitPhase::kLooking, kLookMs);
}

}  // namespace slabscope
