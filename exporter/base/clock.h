// SPDX-License-Identifier: MIT
//
// The clock of everything in a scope file, in nanoseconds.

#pragma once

#include <cstdint>
#include <ctime>

namespace slabscope {

inline constexpr uint64_t kSecondNs = 1'000'000'000;

// As the shim reads it: CLOCK_MONOTONIC, the same in all processes.
inline uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * kSecondNs + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace slabscope
