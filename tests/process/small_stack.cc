// SPDX-License-Identifier: MIT
//
// Threads with the smallest stacks there are (16 KiB, guard page below), doing everything that
// takes a slow path: first use, refill, large blocks, growing realloc, thread exit, fork. And
// coroutines on 12 KiB stacks. A large frame or a recursion shows as a crash.
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/support/child.h"

using slabscope::test::fill;

namespace {

constexpr size_t kThreadStack = 16384;
constexpr size_t kCoroutineStack = 12288;
constexpr size_t kPage = 4096;
constexpr size_t kBlocks = 200;

void everything() {
  void* blocks[kBlocks];
  for (size_t round = 0; round < 3; ++round) {
    for (size_t i = 0; i < kBlocks; ++i) {
      const size_t bytes = 1 + (i * 977 + round) % 60000;
      blocks[i] = i % 3 == 0 ? calloc(bytes, 1) : malloc(bytes);
      SC_EXPECT(blocks[i] != nullptr);
      fill(blocks[i], bytes < 32 ? bytes : 32, 1);
    }
    for (auto& block : blocks) {
      block = realloc(block, 70000);
      SC_EXPECT(block != nullptr);
    }
    for (void* block : blocks) {
      free(block);
    }
  }
  void* aligned = nullptr;
  SC_EXPECT(posix_memalign(&aligned, 65536, 100000) == 0);
  free(aligned);
  free(malloc(size_t{100} << 20));
}

void* thread_body(void*) {
  everything();
  return nullptr;
}

void* forking_body(void*) {
  const pid_t child = fork();
  SC_EXPECT(child >= 0);
  if (child == 0) {
    free(malloc(5000));
    _exit(0);
  }
  SC_EXPECT(slabscope::test::exited(slabscope::test::wait_for(child)));
  return nullptr;
}

void run_thread(void* (*body)(void*)) {
  pthread_attr_t attributes;
  SC_EXPECT(pthread_attr_init(&attributes) == 0);
  SC_EXPECT(pthread_attr_setstacksize(&attributes, kThreadStack) == 0);
  pthread_t thread{};
  SC_EXPECT(pthread_create(&thread, &attributes, body, nullptr) == 0);
  SC_EXPECT(pthread_join(thread, nullptr) == 0);
  SC_EXPECT(pthread_attr_destroy(&attributes) == 0);
}

ucontext_t g_main;
ucontext_t g_coroutine;

void coroutines() {
  auto* stack = static_cast<char*>(mmap(nullptr, kCoroutineStack + kPage, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  SC_EXPECT(stack != MAP_FAILED && mprotect(stack, kPage, PROT_NONE) == 0);
  for (int i = 0; i < 20; ++i) {
    SC_EXPECT(getcontext(&g_coroutine) == 0);
    g_coroutine.uc_stack.ss_sp = stack + kPage;
    g_coroutine.uc_stack.ss_size = kCoroutineStack;
    g_coroutine.uc_link = &g_main;
    makecontext(&g_coroutine, everything, 0);
    SC_EXPECT(swapcontext(&g_main, &g_coroutine) == 0);
  }
  SC_EXPECT(munmap(stack, kCoroutineStack + kPage) == 0);
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  for (int i = 0; i < 50; ++i) {
    run_thread(thread_body);
    run_thread(forking_body);
  }
  coroutines();
  return 0;
}
