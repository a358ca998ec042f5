// SPDX-License-Identifier: MIT
//
// The snapshot stub: code in the process that a tool lets one stopped thread run, to make a copy of
// the process by clone().
//
//   tool: regs saved, frame written ─► thread runs stub: syscall ─► tool: regs put back, as before
//                                                          └ the tool is gone: the thread reaps the
//                                                            child and restores its registers
// itself
//
// The frame is below the thread's red zone: the signal mask, rax, rbx, rcx, rdx, rsi, rdi, rbp,
// r8 to r15, flags, and the address to go on at, 8 bytes each from rsp upwards; the 128 bytes of
// red zone follow. The child ends itself at once unless a tracer holds it. Nothing in the process
// calls this.

#pragma once

#include <cstdint>

namespace slabscope {

struct SnapshotStub {
  uint64_t address;
  uint32_t bytes;
};
// Zeroes where there is none.
SnapshotStub snapshot_stub();

}  // namespace slabscope
