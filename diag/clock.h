// SPDX-License-Identifier: MIT
//
// clock: CLOCK_MONOTONIC at the kernel's tick for about 5 ns, without libc's clock_gettime.
//
// A time stamp an object is too dear as a system call (90 ns), and libc's function may be another
// library's wrapper that allocates. So the kernel's own function is looked up in the vdso, once.
// Locks: none. Called from: preload's constructor (clock_init), ObjectTable.

#pragma once

#include <cstdint>

namespace slabscope::diag {

// Finds the vdso's clock; without it coarse_monotonic_ns() is a system call.
void clock_init();

// Nanoseconds of CLOCK_MONOTONIC_COARSE.
[[nodiscard]] uint64_t coarse_monotonic_ns();

}  // namespace slabscope::diag
