// SPDX-License-Identifier: MIT
//
// Sandboxes that come down after start: a seccomp filter that kills whatever is not memory, futex,
// write or exit, in the first thread and in one started before; and filters that refuse (ENOSYS,
// EPERM) what an allocator would like but can do without: madvise, mremap.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/support/child.h"

namespace {

std::vector<sock_filter> g_program;

void answer(long call, unsigned verdict) {
  g_program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
  g_program.push_back(BPF_STMT(BPF_RET | BPF_K, verdict));
}

void install(unsigned otherwise) {
  g_program.push_back(BPF_STMT(BPF_RET | BPF_K, otherwise));
  const sock_fprog program{static_cast<unsigned short>(g_program.size()), g_program.data()};
  SC_EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  SC_EXPECT(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) ==
            0);
}

void begin() {
  g_program.clear();
  g_program.reserve(64);
  g_program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
}

void memory_futex_write_only() {
  begin();
  for (long call : {SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_brk, SYS_futex,
                    SYS_write, SYS_exit, SYS_exit_group, SYS_rt_sigreturn, SYS_rt_sigprocmask}) {
    answer(call, SECCOMP_RET_ALLOW);
  }
  install(SECCOMP_RET_KILL_PROCESS);
}

void use_heap() {
  static void* blocks[1000];
  for (size_t round = 0; round < 20; ++round) {
    for (size_t i = 0; i < 1000; ++i) {
      const size_t bytes = 1 + (i * 7919 + round * 31) % (i % 50 == 0 ? 2000000 : 20000);
      blocks[i] = i % 2 == 0 ? calloc(bytes, 1) : malloc(bytes);
      SC_EXPECT(blocks[i] != nullptr);
      if (i % 2 == 0) {
        for (size_t at = 0; at < bytes; at += 64) {
          SC_EXPECT(static_cast<char*>(blocks[i])[at] == 0);
        }
      }
      memset(blocks[i], 0x5a, bytes);
    }
    for (size_t i = 0; i < 1000; ++i) {
      blocks[i] = realloc(blocks[i], 100 + i * 50 * (round % 3 + 1));
      SC_EXPECT(blocks[i] != nullptr && *static_cast<char*>(blocks[i]) == 0x5a);
    }
    for (void* block : blocks) {
      free(block);
    }
  }
}

// The filter comes when the process is up and one thread has not yet allocated.
void killed_otherwise() {
  std::atomic<int> stage{0};
  std::thread late([&stage] {
    stage.store(1);
    while (stage.load() != 2) {
    }
    use_heap();
    stage.store(3);
    while (stage.load() != 4) {
    }
  });
  while (stage.load() != 1) {
  }
  memory_futex_write_only();
  use_heap();
  stage.store(2);
  while (stage.load() != 3) {
  }
  use_heap();
  exit(0);  // exit handlers run inside the sandbox too
}

void refused(std::initializer_list<long> calls, int error) {
  begin();
  for (long call : calls) {
    answer(call, SECCOMP_RET_ERRNO | static_cast<unsigned>(error));
  }
  install(SECCOMP_RET_ALLOW);
  use_heap();
  std::thread(use_heap).join();
  exit(0);
}

}  // namespace

int main() {
  using slabscope::test::exited;
  using slabscope::test::in_child;
  slabscope::test::expect_preload();
  SC_EXPECT(exited(in_child(killed_otherwise)));
  for (int error : {ENOSYS, EPERM, EINVAL, ENOMEM}) {
    SC_EXPECT(exited(in_child([=] { refused({SYS_madvise}, error); })));
    SC_EXPECT(exited(in_child([=] { refused({SYS_mremap}, error); })));
    SC_EXPECT(exited(in_child([=] { refused({SYS_madvise, SYS_mremap, SYS_munmap}, error); })));
  }
  SC_EXPECT(exited(in_child([] {
    refused({SYS_getrandom, SYS_prctl, SYS_sched_getaffinity, SYS_membarrier}, ENOSYS);
  })));
  return 0;
}
