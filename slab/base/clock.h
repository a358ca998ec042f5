// SPDX-License-Identifier: MIT
//
// clock: the time without libc's clock_gettime and, after start, without a system call.
//
// libc's function may be another library's wrapper that allocates; a system call costs 90 ns and is
// refused by a sandbox that allows only memory and write calls. So the kernel's own function is
// looked up in the vdso, once: 5 ns. Locks: none.

#pragma once

#include <cstdint>

namespace slabscope {

// Finds the vdso's clock; without it the functions below are system calls. Before threads exist.
void clock_init();

// Nanoseconds of CLOCK_MONOTONIC; and at the kernel's tick (1-4 ms), for less.
[[nodiscard]] uint64_t monotonic_ns();
[[nodiscard]] uint64_t coarse_monotonic_ns();
// That tick in milliseconds, for differences: it starts again at 0 after 49 days.
[[nodiscard]] uint32_t coarse_monotonic_ms();
[[nodiscard]] uint64_t realtime_ns();

}  // namespace slabscope
