// SPDX-License-Identifier: MIT

#include "preload/snapshot_stub.h"

#if defined(__x86_64__)

// In its own section, so that it is one piece of code with a known end. The tool stops the thread
// at the end of the first system call; what follows runs only if the tool is gone: wait4(child,
// 0, __WALL, 0), because the child's exit signal is 0 and nobody else will ask for it, and
// rt_sigprocmask(SIG_SETMASK, rsp, 0, 8).
__asm__(
    ".pushsection .text.snapshot_stub,\"ax\",@progbits\n"
    ".hidden g_slabscope_stub_begin\n"
    ".hidden g_slabscope_stub_end\n"
    ".globl g_slabscope_stub_begin\n"
    ".globl g_slabscope_stub_end\n"
    ".balign 64\n"
    "g_slabscope_stub_begin:\n"
    "  syscall\n"
    "  test %rax, %rax\n"
    "  jz 2f\n"
    "  js 1f\n"
    "  mov %rax, %rdi\n"
    "  xor %esi, %esi\n"
    "  mov $0x40000000, %edx\n"
    "  xor %r10d, %r10d\n"
    "  mov $61, %eax\n"
    "  syscall\n"
    "1:\n"
    "  mov $2, %edi\n"
    "  mov %rsp, %rsi\n"
    "  xor %edx, %edx\n"
    "  mov $8, %r10d\n"
    "  mov $14, %eax\n"
    "  syscall\n"
    "  add $8, %rsp\n"
    "  pop %rax\n"
    "  pop %rbx\n"
    "  pop %rcx\n"
    "  pop %rdx\n"
    "  pop %rsi\n"
    "  pop %rdi\n"
    "  pop %rbp\n"
    "  pop %r8\n"
    "  pop %r9\n"
    "  pop %r10\n"
    "  pop %r11\n"
    "  pop %r12\n"
    "  pop %r13\n"
    "  pop %r14\n"
    "  pop %r15\n"
    "  popfq\n"
    "  ret $128\n"
    "2:\n"
    "  xor %edi, %edi\n"
    "  mov $231, %eax\n"
    "  syscall\n"
    "  hlt\n"
    "g_slabscope_stub_end:\n"
    ".popsection\n");

extern "C" {
extern const char g_slabscope_stub_begin[] __attribute__((visibility("hidden")));
extern const char g_slabscope_stub_end[] __attribute__((visibility("hidden")));
}

namespace slabscope {

SnapshotStub snapshot_stub() {
  return {reinterpret_cast<uint64_t>(g_slabscope_stub_begin),
          static_cast<uint32_t>(g_slabscope_stub_end - g_slabscope_stub_begin)};
}

}  // namespace slabscope

#else

namespace slabscope {

SnapshotStub snapshot_stub() {
  return {0, 0};
}

}  // namespace slabscope

#endif
