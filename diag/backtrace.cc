// SPDX-License-Identifier: MIT

#include "diag/backtrace.h"

#include <dlfcn.h>
#include <unwind.h>

#include <atomic>
#include <cerrno>

#include "diag/libunwind_loader.h"
#include "diag/memory_probe.h"
#include "slab/base/compiler.h"

namespace slabscope::diag {
namespace {

// Frames of our own that an unwinder may report before capture()'s caller.
constexpr unsigned kOwnFrames = 8;
constexpr unsigned kRawFrames = abi::kMaxFrames + kOwnFrames;
constexpr uintptr_t kPage = abi::kPageBytes;

// Stack that an unwinder needs below us. Measured on painted stacks, Debian 12: libunwind 1.6.2
// 5.5 KiB with a cold cache, libgcc 12 2.2 KiB; doubled.
constexpr size_t kLibunwindStack = size_t{12} << 10;
constexpr size_t kLibgccStack = size_t{6} << 10;
constexpr uintptr_t kMaxFrameBytes = size_t{1} << 20;  // a longer step is junk in the frame pointer
constexpr uintptr_t kAddressEnd = uintptr_t{1} << 47;
constexpr uintptr_t kMaxKnownStack = size_t{1} << 20;

using UnwindBacktrace = _Unwind_Reason_Code (*)(_Unwind_Trace_Fn, void*);
using UnwindGetIp = _Unwind_Ptr (*)(struct _Unwind_Context*);

constinit UnwBacktrace g_unw_backtrace = nullptr;
constinit UnwindBacktrace g_unwind_backtrace = nullptr;
constinit UnwindGetIp g_unwind_get_ip = nullptr;
constinit Unwinder g_unwinder = Unwinder::kFramePointers;

struct ThreadState {
  bool capturing;
  // Stack that was seen to be readable: [low, high).
  uintptr_t low;
  uintptr_t high;
};
SC_TLS constinit thread_local ThreadState t_state{};

// ---- how much stack is left -------------------------------------------------------------------------

// Whether [sp - need, sp] is readable stack. The lower end of a thread's stack is known to libc alone,
// and asking it allocates; below it lies a guard page, which is what the probe finds. The main
// thread's stack grows under the probe as under a store.
bool stack_left(uintptr_t sp, size_t need) {
  ThreadState& state = t_state;
  if (SC_LIKELY(sp - need >= state.low && sp < state.high))
    return true;
  const uintptr_t first = (sp - need) & ~(kPage - 1);
  const uintptr_t end = (sp & ~(kPage - 1)) + kPage;
  for (uintptr_t page = first; page < end; page += kPage) {
    if (page >= state.low && page < state.high)
      continue;
    if (!is_readable(page))
      return false;
  }
  const bool touches = first <= state.high && end >= state.low;
  const uintptr_t low = touches && state.low < first ? state.low : first;
  const uintptr_t high = touches && state.high > end ? state.high : end;
  // Coroutine stacks come and go: what was seen is not believed for ever, nor for too much.
  const bool grown = high - low > kMaxKnownStack;
  state.low = grown ? first : low;
  state.high = grown ? end : high;
  return true;
}

// ---- the ways to unwind ---------------------------------------------------------------------------

// Follows saved frame pointers upwards. They may be junk: each must lie above the last, not far
// away, aligned, and in memory that was probed.
SC_NOINLINE unsigned walk_frame_pointers(uintptr_t* frames, unsigned max, uintptr_t first_return,
                                         uintptr_t frame) {
  unsigned count = 0;
  frames[count++] = first_return;
  uintptr_t readable_page = 0;
  uintptr_t last = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  while (count < max) {
    if (frame % 8 != 0 || frame <= last || frame - last > kMaxFrameBytes)
      break;
    const uintptr_t page = (frame + 8) & ~(kPage - 1);
    if (page != readable_page) {
      if (!is_readable(frame) || !is_readable(frame + 8))
        break;
      readable_page = page;
    } else if (frame < page && !is_readable(frame)) {
      break;
    }
    const auto* words = reinterpret_cast<const uintptr_t*>(frame);
    if (words[1] < kPage || words[1] >= kAddressEnd)
      break;
    frames[count++] = words[1];
    last = frame;
    frame = words[0];
  }
  return count;
}

struct Collected {
  uintptr_t* frames;
  unsigned count;
  unsigned max;
};

_Unwind_Reason_Code collect(struct _Unwind_Context* context, void* data) {
  auto& collected = *static_cast<Collected*>(data);
  const uintptr_t ip = g_unwind_get_ip(context);
  if (ip == 0 || collected.count == collected.max)
    return _URC_END_OF_STACK;
  collected.frames[collected.count++] = ip;
  return _URC_NO_REASON;
}

SC_NOINLINE unsigned unwind_by_libgcc(uintptr_t* frames, unsigned max) {
  Collected collected{frames, 0, max};
  g_unwind_backtrace(collect, &collected);
  return collected.count;
}

SC_NOINLINE unsigned unwind_by_libunwind(uintptr_t* frames, unsigned max) {
  const int count = g_unw_backtrace(reinterpret_cast<void**>(frames), static_cast<int>(max));
  return count > 0 ? static_cast<unsigned>(count) : 0;
}

size_t stack_need() {
  return g_unwinder == Unwinder::kLibunwind ? kLibunwindStack : kLibgccStack;
}

unsigned unwind(uintptr_t* frames, unsigned max) {
  return g_unwinder == Unwinder::kLibunwind ? unwind_by_libunwind(frames, max)
                                            : unwind_by_libgcc(frames, max);
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

void load_libgcc() {
  // What the program has already, or else a copy for us alone: a C program's stacks need it too.
  void* library = dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return;
  auto* backtrace = reinterpret_cast<UnwindBacktrace>(dlsym(library, "_Unwind_Backtrace"));
  auto* get_ip = reinterpret_cast<UnwindGetIp>(dlsym(library, "_Unwind_GetIP"));
  if (backtrace == nullptr || get_ip == nullptr)
    return;
  g_unwind_backtrace = backtrace;
  g_unwind_get_ip = get_ip;
}

}  // namespace

void backtrace_init(abi::TrackMode mode) {
  if (mode == abi::TrackMode::kOff)
    return;
  if (mode == abi::TrackMode::kAll)
    g_unw_backtrace = load_libunwind();
  if (g_unw_backtrace == nullptr)
    load_libgcc();
  if (g_unw_backtrace != nullptr) {
    g_unwinder = Unwinder::kLibunwind;
  } else if (g_unwind_backtrace != nullptr) {
    g_unwinder = Unwinder::kLibgcc;
  }
  // Whatever the library does at its first use, it does here and not inside the program's malloc.
  uintptr_t frames[4];
  static_cast<void>(capture(frames, 4, 0));
}

bool in_capture() {
  return t_state.capturing;
}

Unwinder unwinder() {
  return g_unwinder;
}

SC_NOINLINE unsigned capture(uintptr_t* frames, unsigned max, unsigned skip) {
  if (max == 0 || t_state.capturing)
    return 0;
  t_state.capturing = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const int saved_errno = errno;

  const auto self = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  const auto* own_frame = static_cast<const uintptr_t*>(__builtin_frame_address(0));
  uintptr_t raw[kRawFrames];
  if (max > abi::kMaxFrames)
    max = abi::kMaxFrames;
  if (skip > abi::kMaxFrames)
    skip = abi::kMaxFrames;
  unsigned wanted = max + skip + kOwnFrames;
  if (wanted > kRawFrames)
    wanted = kRawFrames;

  unsigned count = 0;
  unsigned first = 0;
  if (g_unwinder != Unwinder::kFramePointers &&
      stack_left(reinterpret_cast<uintptr_t>(raw), stack_need())) {
    count = unwind(raw, wanted);
    first = find_own(raw, count, self);
  }
  if (first == count) {
    count = walk_frame_pointers(raw, wanted, self, own_frame[0]);
    first = 0;
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

}  // namespace slabscope::diag
