// SPDX-License-Identifier: MIT
//
// System calls without libc: no errno, no cancellation point, nothing another library can
// interpose.
//
// A fakeroot or faketime that wraps open() or clock_gettime() resolves the real one with dlsym,
// which allocates: an allocator that calls such a wrapper while it starts calls itself.  So slab/,
// diag/ and preload/ ask the kernel directly.  Every function returns what the kernel does: a value
// >= 0, or the negated error number.

#pragma once

#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>

#include "slab/base/compiler.h"

namespace slabscope::sys {

// The kernel's answer to system call `number` with up to six arguments.
#if defined(__x86_64__)
// NOLINTNEXTLINE(readability-function-size): the kernel's interface has six arguments.
SC_INLINE long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                   long f = 0) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
SC_INLINE long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                   long f = 0) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}
#else
#  error "slabscope knows the system calls of x86-64 and aarch64"
#endif

// Pointer or size as a system call argument.
template <typename T>
SC_INLINE long arg(T* pointer) {
  return reinterpret_cast<long>(pointer);
}
SC_INLINE long arg(size_t value) {
  return static_cast<long>(value);
}

// Whether a result of raw() is an error.
SC_INLINE bool failed(long result) {
  return result < 0 && result > -4096;
}

// Pid and tid of the caller, asked for each time: a cached pid is wrong after a raw clone().
int pid();
int tid();

// Writes all of `bytes` to descriptor `fd`, restarting short writes; gives up at the first error.
void write_all(int fd, const char* text, size_t bytes);

}  // namespace slabscope::sys
