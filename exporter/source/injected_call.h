// SPDX-License-Identifier: MIT
//
// injected_call: one stopped thread makes a system call for us, and goes on as if it had not.
//
//   registers saved ─► frame below its red zone ─► stub ─syscall─► stopped at its end ─► registers,
//   mask and the interrupted system call exactly as they were
//
// The code is the shim's own snapshot stub (abi/heap_layout.h). It restores all registers itself
// when nobody holds the thread any more: this program may be killed at any moment in between.
// Signals are blocked meanwhile, and delivered afterwards. An interrupted system call is restarted
// by the kernel, as it would have been: the saved registers still say which one it was.
//
// Not where a seccomp filter might see the call, in a restartable sequence, or on other machines
// than x86-64: then there is a reason instead of a result.

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "diag/abi/heap_layout.h"
#include "exporter/base/result.h"
#include "exporter/source/stopped_threads.h"

namespace slabscope {

struct InjectedCall {
  uint64_t number = 0;
  uint64_t arguments[5] = {};
};

struct InjectedResult {
  int64_t value = 0;    // what the kernel returned
  pid_t new_child = 0;  // the process that the call made, stopped and traced; 0: none
};

// The thread of `stopped` that can make calls; nothing, and `why`, if none can.
const ThreadContext* thread_for_calls(const StoppedThreads& stopped, std::string& why);

// `thread` stays stopped, as it was. The mappings are those of the process.
Result<InjectedResult> inject_call(const StoppedThreads& stopped, const ThreadContext& thread,
                                   const abi::HeapLayout& layout, const InjectedCall& call);

}  // namespace slabscope
