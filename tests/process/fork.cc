// SPDX-License-Identifier: MIT
//
// fork from threads that allocate, a thousand children in a row, and the ways to make a child that
// run no fork handler: vfork, _Fork, raw clone.
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/syscall.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child.h"

using slabscope::test::exited;
using slabscope::test::fill;
using slabscope::test::filled;
using slabscope::test::in_child;
using slabscope::test::wait_for;

namespace {

size_t size_of(size_t number) {
  return 1 + number * 131 % 40000;
}

void use_heap(size_t count) {
  std::vector<void*> blocks(count);
  for (size_t i = 0; i < count; ++i) {
    blocks[i] = malloc(size_of(i));
    SC_EXPECT(blocks[i] != nullptr);
    fill(blocks[i], size_of(i), static_cast<unsigned>(i));
  }
  for (size_t i = 0; i < count; ++i) {
    SC_EXPECT(filled(blocks[i], size_of(i), static_cast<unsigned>(i)));
    free(blocks[i]);
  }
}

// Threads that never leave the heap alone while others fork.
class Busy {
 public:
  explicit Busy(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      threads_.emplace_back([this, i] {
        for (size_t n = i; !stop_.load(std::memory_order_relaxed); ++n) {
          void* block = malloc(size_of(n));
          fill(block, 8 < size_of(n) ? 8 : 1, static_cast<unsigned>(n));
          free(block);
          if (n % 64 == 0) {
            FILE* stream = fopen("/dev/null", "w");  // stdio's lock against ours
            if (stream != nullptr) {
              fclose(stream);
            }
          }
        }
      });
    }
  }
  ~Busy() {
    stop_.store(true);
    for (auto& thread : threads_) {
      thread.join();
    }
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

void from_threads() {
  Busy busy(2);
  std::vector<std::thread> forkers;
  for (int t = 0; t < 2; ++t) {
    forkers.emplace_back([] {
      for (int i = 0; i < 100; ++i) {
        SC_EXPECT(exited(in_child([] {
          use_heap(50);
          std::thread([] { use_heap(50); }).join();
        })));
      }
    });
  }
  for (auto& forker : forkers) {
    forker.join();
  }
}

void a_thousand_children() {
  std::string kept(5000, 'k');
  for (int i = 0; i < 1000; ++i) {
    SC_EXPECT(exited(in_child([&kept] {
      kept.append(20000, 'c');
      SC_EXPECT(kept.size() == 25000);
    })));
  }
  SC_EXPECT(kept == std::string(5000, 'k'));
}

// Each child forks the next: the last of forty generations still has the first one's heap.
void generations(int depth) {
  void* block = malloc(3000);
  fill(block, 3000, static_cast<unsigned>(depth));
  if (depth > 0) {
    SC_EXPECT(exited(in_child([depth] { generations(depth - 1); })));
  }
  SC_EXPECT(filled(block, 3000, static_cast<unsigned>(depth)));
  free(block);
}

// The parent's blocks are the child's too, until one of them writes: neither sees the other's work.
void the_heap_is_not_shared() {
  std::vector<void*> blocks;
  for (size_t i = 0; i < 500; ++i) {
    blocks.push_back(malloc(size_of(i)));
    fill(blocks[i], size_of(i), 1);
  }
  SC_EXPECT(exited(in_child([&blocks] {
    for (size_t i = 0; i < blocks.size(); ++i) {
      SC_EXPECT(filled(blocks[i], size_of(i), 1));
      fill(blocks[i], size_of(i), 2);
      free(blocks[i]);
    }
    use_heap(1000);
  })));
  for (size_t i = 0; i < blocks.size(); ++i) {
    SC_EXPECT(filled(blocks[i], size_of(i), 1));
    free(blocks[i]);
  }
}

__attribute__((noinline)) pid_t vfork_true() {
  const pid_t child = vfork();
  if (child == 0) {
    execl("/bin/true", "true", static_cast<char*>(nullptr));
    _exit(127);
  }
  return child;
}

void vfork_and_exec() {
  for (int i = 0; i < 200; ++i) {
    const pid_t child = vfork_true();
    SC_EXPECT(child >= 0 && exited(wait_for(child)));
  }
  use_heap(100);
}

// Not allowed by the book, done by programs: a vfork child that allocates in its parent's memory.
void vfork_child_that_allocates() {
  void* volatile block = nullptr;
  const pid_t child = vfork();
  if (child == 0) {
    block = malloc(777);
    free(malloc(100));
    _exit(block != nullptr ? 0 : 1);
  }
  SC_EXPECT(exited(wait_for(child)));
  free(block);
  use_heap(100);
}

// With one thread only: in a child of several, made behind everybody's back, a lock may be held for
// ever by a thread that is not there, and what it guards may be half changed.
void without_handlers() {
  for (int i = 0; i < 50; ++i) {
    pid_t child = _Fork();
    SC_EXPECT(child >= 0);
    if (child == 0) {
      use_heap(200);
      _exit(0);
    }
    SC_EXPECT(exited(wait_for(child)));
    child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
    SC_EXPECT(child >= 0);
    if (child == 0) {
      use_heap(200);
      _exit(0);
    }
    SC_EXPECT(exited(wait_for(child)));
    use_heap(20);
  }
}

extern "C" char** environ;

void spawn() {
  for (int i = 0; i < 100; ++i) {
    pid_t child = 0;
    char name[] = "true";
    char* arguments[] = {name, nullptr};
    SC_EXPECT(posix_spawn(&child, "/bin/true", nullptr, nullptr, arguments, environ) == 0);
    SC_EXPECT(exited(wait_for(child)));
  }
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  use_heap(1000);
  a_thousand_children();
  from_threads();
  generations(40);
  the_heap_is_not_shared();
  vfork_and_exec();
  vfork_child_that_allocates();
  without_handlers();
  spawn();
  return 0;
}
