// SPDX-License-Identifier: MIT
//
// Signals that strike inside malloc and free, on the program's own stacks, and system calls that
// they interrupt. The allocator adds no handler and changes no mask; a handler's longjmp out of
// other code and an abort from a handler work as ever.
#include <setjmp.h>
#include <sys/time.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/support/child.h"

using slabscope::test::fill;
using slabscope::test::filled;

namespace {

std::atomic<int> g_ticks{0};
char g_alternate_stack[65536];

void on_tick(int) {
  g_ticks.fetch_add(1);
}

void use_heap(size_t rounds) {
  std::vector<void*> kept(64);
  for (size_t i = 0; i < rounds; ++i) {
    void*& slot = kept[i % kept.size()];
    const size_t bytes = 1 + i * 53 % 9000;
    free(slot);
    slot = malloc(bytes);
    SC_EXPECT(slot != nullptr);
    fill(slot, bytes < 64 ? bytes : 64, static_cast<unsigned>(i));
    SC_EXPECT(filled(slot, bytes < 64 ? bytes : 64, static_cast<unsigned>(i)));
  }
  for (void* block : kept) {
    free(block);
  }
}

// No handler, no blocked signal, no alternate stack is there that the program did not ask for.
void nothing_is_set() {
  void* block = malloc(100);
  for (int number = 1; number < 65; ++number) {
    struct sigaction action {};
    if (sigaction(number, nullptr, &action) == 0) {
      SC_EXPECT(action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN);
    }
  }
  sigset_t mask;
  SC_EXPECT(sigprocmask(SIG_BLOCK, nullptr, &mask) == 0);
  SC_EXPECT(sigisemptyset(&mask) == 1);
  stack_t stack{};
  SC_EXPECT(sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & SS_DISABLE) != 0);
  free(block);
}

void ticks_during_allocation() {
  stack_t stack{};
  stack.ss_sp = g_alternate_stack;
  stack.ss_size = sizeof g_alternate_stack;
  SC_EXPECT(sigaltstack(&stack, nullptr) == 0);
  struct sigaction action {};
  action.sa_handler = on_tick;
  action.sa_flags = SA_ONSTACK;  // no SA_RESTART: an interrupted call must be dealt with
  SC_EXPECT(sigaction(SIGALRM, &action, nullptr) == 0);
  itimerval every{};
  every.it_interval.tv_usec = every.it_value.tv_usec = 500;
  SC_EXPECT(setitimer(ITIMER_REAL, &every, nullptr) == 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([] {
      while (g_ticks.load() < 1000) {
        use_heap(1000);
      }
    });
  }
  while (g_ticks.load() < 1000) {
    use_heap(1000);
  }
  for (auto& thread : threads) {
    thread.join();
  }
  every = {};
  SC_EXPECT(setitimer(ITIMER_REAL, &every, nullptr) == 0);
}

sigjmp_buf g_back;

void jump_back(int) {
  siglongjmp(g_back, 1);
}

// A program that survives its own bad read by a jump out of the handler goes on allocating.
void jump_out_of_a_handler() {
  struct sigaction action {};
  action.sa_handler = jump_back;
  SC_EXPECT(sigaction(SIGSEGV, &action, nullptr) == 0);
  static int round;
  for (round = 0; round < 100; ++round) {
    if (sigsetjmp(g_back, 1) == 0) {
      free(malloc(100));
      raise(SIGSEGV);
      SC_EXPECT(false);
    }
    use_heap(100);
  }
  action.sa_handler = SIG_DFL;
  SC_EXPECT(sigaction(SIGSEGV, &action, nullptr) == 0);
}

// The crash of a program is its own: same signal, no message of ours, no hang.
void a_crash_stays_a_crash() {
  for (int number : {SIGSEGV, SIGABRT, SIGTERM, SIGKILL}) {
    const int status = slabscope::test::in_child([number] {
      void* block = malloc(1000);
      fill(block, 1000, 1);
      raise(number);
    });
    SC_EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == number);
  }
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  nothing_is_set();
  ticks_during_allocation();
  jump_out_of_a_handler();
  a_crash_stays_a_crash();
  return 0;
}
