// SPDX-License-Identifier: MIT
//
// backtrace: the return addresses of the calling thread, without a lock of ours and without malloc.
//
//   capture ─► guard ─► enough stack left? ─ no ─► 0 frames
//                          │ yes
//                          ├─ quick_walk: what changed since the last walk ─ complete? ─► done
//                          ├─ kAll:  libunwind's unw_backtrace (cached), if 12 KiB are left
//                          └─ else:  cfi_walk, by unwind tables, else by frame pointers
//
// Invariants
//   1. capture() never re-enters itself in one thread: a nested call gives 0 frames.   (guard test)
//   2. Memory of unknown state is probed with a futex operation, which reads a word or says
//      EFAULT and changes nothing, before it is read.                                  (junk test)
//   3. libunwind's own validation pipe and file accesses are redirected: it opens no descriptor and
//      touches none; its module search goes to _dl_find_object, so no loader lock either.
// Locks: none of ours; libunwind takes its own. Must be called with no allocator lock held: a
// thread's first use of libunwind may call malloc (its thread-local block), which sees in_capture()
// and tracks nothing.
// Called from: preload/, for sampled or tracked allocations.
// Why dlopen: linked, libunwind's _Unwind_* would take the place of libgcc's in C programs that
// load C++ libraries. See docs/decisions.

#pragma once

#include <cstddef>
#include <cstdint>

#include "diag/abi/layout.h"
#include "diag/quick_walk.h"
#include "slab/base/compiler.h"

namespace slabscope::diag {

enum class Unwinder : uint32_t { kTables = 0, kLibunwind = 1 };

// From the shim's constructor, once: loads and prepares what `mode` needs; only kAll needs
// anything.
SC_COLD void backtrace_init(abi::TrackMode mode);

// In a fork child: another thread may have held libunwind's lock, which nobody lets go here. From
// now on stacks are walked by our own tables alone.
void backtrace_after_fork();

// Up to `max` (<= abi::kMaxFrames) return addresses, innermost first. With `skip` 0 the first is
// the address to which capture() itself returns; `skip` (at most 8) leaves out that many more.
// 0 if nothing can be had now.
[[nodiscard]] unsigned capture(uintptr_t* frames, unsigned max, unsigned skip);

// A captured stack, or the name that name_stack() gave to the very same one earlier.
struct NamedStack {
  unsigned count = 0;  // frames; 0 with a name
  WalkName walk;       // walk.name != 0: it has one
};
// As capture(). Names are one user's alone, who asks with one `max` and one `skip`.
[[nodiscard]] NamedStack capture_named(uintptr_t* frames, unsigned max, unsigned skip);
// Best effort; for the stack that this thread captured last.
void name_stack(const NamedStack& stack, uint32_t name);

// Whether the calling thread is inside capture(): an allocation made now must not be tracked.
[[nodiscard]] bool in_capture();

// What capture() uses when there is stack enough.
[[nodiscard]] Unwinder unwinder();

}  // namespace slabscope::diag
