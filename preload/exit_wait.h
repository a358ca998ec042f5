// SPDX-License-Identifier: MIT
//
// exit_wait: the process stands still at its end until the tool that started it has copied it.
//
//   process: exit_phase = waiting ─► tool: looking ─► stops us, copies us ─► released ─► goes on
//
// Only a process whose parent is the `slabscope run` that SLABSCOPE_WATCHER names waits, and never
// long: kAnswerMs for an answer (the tool may be gone), kLookMs for the copy. No system call but
// futex: the program may be in a sandbox by now.

#pragma once

namespace slabscope {

// Called from: the exit handler, when all counts are final but the state does not say so yet.
void wait_for_watcher();

}  // namespace slabscope
