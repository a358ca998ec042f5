// SPDX-License-Identifier: MIT

#include "diag/backtrace.h"

#include <atomic>
#include <cerrno>

#include "diag/cfi_walk.h"
#include "diag/libunwind_loader.h"
#include "diag/memory_probe.h"
#include "diag/quick_walk.h"
#include "slab/base/compiler.h"

namespace slabscope::diag {
namespace {

// Frames of our own that an unwinder may report before capture()'s caller.
constexpr unsigned kOwnFrames = 8;
constexpr unsigned kMaxSkip = 8;
constexpr uintptr_t kPage = abi::kPageBytes;
constexpr unsigned kRawFrames = abi::kMaxFrames + kOwnFrames + kMaxSkip;

// Stack that an unwinder needs below us. Measured on painted stacks, Debian 12: libunwind 1.6.2
// 5.5 KiB with a cold cache, our own walk 1.6 KiB; doubled.
constexpr size_t kLibunwindStack = size_t{12} << 10;
constexpr size_t kOwnStack = size_t{3} << 10;

constinit UnwBacktrace g_unw_backtrace = nullptr;
constinit Unwinder g_unwinder = Unwinder::kTables;

struct ThreadState {
  bool capturing = false;
  StackWindow window;  // what this thread saw to be readable
};
SC_TLS constinit thread_local ThreadState t_state{};

// Whether [sp - need, sp] is readable stack. Where a thread's stack ends is known to libc alone,
// and asking it allocates; below it lies a guard page, which is what the probe finds. The main
// thread's stack grows under the probe as under a store.
bool stack_left(StackWindow& window, uintptr_t sp, size_t need) {
  uintptr_t low = (sp - need) & ~(kPage - 1);
  uintptr_t high = (sp & ~(kPage - 1)) + kPage;
  if (SC_LIKELY(low >= window.low() && high <= window.high()))
    return true;
  for (uintptr_t page = low; page < high; page += kPage) {
    const bool known = page >= window.low() && page < window.high();
    if (!known && !is_readable(page))
      return false;
  }
  if (low <= window.high() && high >= window.low()) {  // the same stack: keep what was known of it
    if (window.low() < low)
      low = window.low();
    if (window.high() > high)
      high = window.high();
  }
  window = StackWindow(low, high);
  return true;
}

SC_NOINLINE unsigned unwind_by_libunwind(uintptr_t* frames, unsigned max) {
  const int count = g_unw_backtrace(reinterpret_cast<void**>(frames), static_cast<int>(max));
  return count > 0 ? static_cast<unsigned>(count) : 0;
}

// The index of capture()'s own return address among the first frames; count if it is not there.
unsigned find_own(const uintptr_t* frames, unsigned count, uintptr_t self) {
  const unsigned end = count < kOwnFrames ? count : kOwnFrames;
  for (unsigned i = 0; i < end; ++i) {
    if (frames[i] == self)
      return i;
  }
  return count;
}

// Inline: the walk starts in the frame of whoever calls it, which returns to `self`.
SC_INLINE unsigned capture_from(uintptr_t* frames, unsigned max, unsigned skip, uintptr_t self,
                                WalkName* name) {
  if (max == 0 || t_state.capturing)
    return 0;
  t_state.capturing = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const int saved_errno = errno;

  const CfiRegisters registers = current_registers();
  uintptr_t raw[kRawFrames];
  if (max > abi::kMaxFrames)
    max = abi::kMaxFrames;
  if (skip > kMaxSkip)
    skip = kMaxSkip;
  const unsigned wanted = max + skip + kOwnFrames;

  const auto sp = reinterpret_cast<uintptr_t>(raw);
  StackWindow& window = t_state.window;
  // Three ways, the cheapest first; one that has no whole stack leaves it to the next.
  unsigned count = 0;
  unsigned first = 0;
  if (stack_left(window, sp, kOwnStack)) {
    const QuickWalk walk = name != nullptr
                               ? quick_walk_named(raw, max + skip, registers, window, *name)
                               : quick_walk(raw, max + skip, registers, window);
    bool complete = walk.complete;
    count = walk.count;
    if (!complete && g_unwinder == Unwinder::kLibunwind &&
        stack_left(window, sp, kLibunwindStack)) {
      count = unwind_by_libunwind(raw, wanted);
      first = find_own(raw, count, self);
      complete = first < count;
    }
    if (!complete) {
      count = cfi_walk(raw, max + skip, registers, window);
      first = 0;
    }
  }
  first += skip;
  unsigned kept = 0;
  while (kept < max && first < count)
    frames[kept++] = raw[first++];

  errno = saved_errno;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  t_state.capturing = false;
  return kept;
}

}  // namespace

void backtrace_init(abi::TrackMode mode) {
  if (mode != abi::TrackMode::kAll)
    return;
  g_unw_backtrace = load_libunwind();
  if (g_unw_backtrace == nullptr)
    return;
  g_unwinder = Unwinder::kLibunwind;
  // Whatever the library does at its first use, it does here and not inside the program's malloc.
  // Not by capture(), which may come to the end of the stack without it.
  uintptr_t frames[4];
  t_state.capturing = true;
  static_cast<void>(unwind_by_libunwind(frames, 4));
  t_state.capturing = false;
}

void backtrace_after_fork() {
  g_unwinder = Unwinder::kTables;
  t_state.capturing = false;
  quick_walk_after_fork();
}

bool in_capture() {
  return t_state.capturing;
}

Unwinder unwinder() {
  return g_unwinder;
}

SC_NOINLINE unsigned capture(uintptr_t* frames, unsigned max, unsigned skip) {
  return capture_from(frames, max, skip, reinterpret_cast<uintptr_t>(__builtin_return_address(0)),
                      nullptr);
}

SC_NOINLINE NamedStack capture_named(uintptr_t* frames, unsigned max, unsigned skip) {
  NamedStack stack;
  stack.count = capture_from(frames, max, skip,
                             reinterpret_cast<uintptr_t>(__builtin_return_address(0)), &stack.walk);
  return stack;
}

void name_stack(const NamedStack& stack, uint32_t name) {
  name_walk(stack.walk, name);
}

}  // namespace slabscope::diag
