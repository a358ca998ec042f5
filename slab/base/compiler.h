// SPDX-License-Identifier: MIT
//
// Attributes and hints: the only file that knows which compiler it is.

#pragma once

#define SC_LIKELY(x) __builtin_expect(!!(x), 1)
#define SC_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define SC_INLINE inline __attribute__((always_inline))
#define SC_NOINLINE __attribute__((noinline))
// Hardly ever run: built for size, and out of most processes' memory (preload/sections.ld).
#define SC_COLD __attribute__((noinline, cold))
#define SC_EXPORT __attribute__((visibility("default")))
#define SC_WEAK __attribute__((weak))
#define SC_RETURN_ADDRESS() __builtin_return_address(0)
#define SC_TLS __attribute__((tls_model("initial-exec")))

// Clang's thread-safety analysis; nothing with other compilers.
#if defined(__clang__)
#  define SC_THREAD_ANNOTATION(x) __attribute__((x))
#else
#  define SC_THREAD_ANNOTATION(x)
#endif
#define SC_CAPABILITY(name) SC_THREAD_ANNOTATION(capability(name))
#define SC_SCOPED_CAPABILITY SC_THREAD_ANNOTATION(scoped_lockable)
#define SC_GUARDED_BY(mutex) SC_THREAD_ANNOTATION(guarded_by(mutex))
#define SC_REQUIRES(mutex) SC_THREAD_ANNOTATION(requires_capability(mutex))
#define SC_ACQUIRE(...) SC_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define SC_RELEASE(...) SC_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define SC_TRY_ACQUIRE(...) SC_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define SC_NO_THREAD_ANALYSIS SC_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace slabscope {

// A counter with one writer and readers in other threads or processes: a plain increment. Under
// ThreadSanitizer the same as relaxed atomics, which would cost two instructions more.
#if defined(__SANITIZE_THREAD__)
SC_INLINE unsigned long counted(const unsigned long& counter) {
  return __atomic_load_n(&counter, __ATOMIC_RELAXED);
}
SC_INLINE void count_to(unsigned long& counter, unsigned long value) {
  __atomic_store_n(&counter, value, __ATOMIC_RELAXED);
}
SC_INLINE void count_up(unsigned long& counter) {
  count_to(counter, counted(counter) + 1);
}
#else
SC_INLINE unsigned long counted(const unsigned long& counter) {
  return counter;
}
SC_INLINE void count_to(unsigned long& counter, unsigned long value) {
  counter = value;
}
SC_INLINE void count_up(unsigned long& counter) {
  ++counter;
}
#endif

// Tells the processor that this is a spin loop.
SC_INLINE void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace slabscope
