// SPDX-License-Identifier: MIT
//
// What the tests of slab/ share: threads with a cache of their own, children, a walk over the
// window.
//
// The heap is the process's, and other tests have used it: tests look at differences, work in slots
// of their own, or in a child.

#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "slab/base/hooks.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/decay.h"
#include "slab/cache/large.h"
#include "slab/cache/thread_registry.h"
#include "slab/heap.h"
#include "slab/pages/page_heap.h"

namespace slabscope::testing {

inline constexpr bool kThreadSanitizer =
#if defined(__SANITIZE_THREAD__)
    true;
#else
    false;
#endif
inline constexpr bool kAddressSanitizer =
#if defined(__SANITIZE_ADDRESS__)
    true;
#else
    false;
#endif

// A thread that gives its slot back when its body is done, as preload's key destructor does.
class SlabThread {
 public:
  template <typename Body>
  explicit SlabThread(Body body)
      : thread_([body = std::move(body)]() mutable {
          body();
          g_threads.end();
        }) {}
  ~SlabThread() {
    if (thread_.joinable())
      thread_.join();
  }
  SlabThread(SlabThread&&) = default;
  SlabThread& operator=(SlabThread&&) = default;
  void join() { thread_.join(); }

 private:
  std::thread thread_;
};

template <typename Body>
void in_thread(Body body) {
  SlabThread(std::move(body)).join();
}

template <typename Body>
void in_threads(unsigned count, Body body) {
  std::vector<SlabThread> threads;
  for (unsigned i = 0; i < count; ++i)
    threads.emplace_back([body, i] { body(i); });
}

// The calling thread's list and counters of `id`.
inline Bin* my_bin(unsigned id) {
  return bin_at(t_bins, id * sizeof(Bin));
}
inline CounterPair my_counters(unsigned id) {
  return *counters_of(my_bin(id));
}
inline size_t list_length(const Bin* bin) {
  size_t count = 0;
  for (const FreeObject* object = bin->head; object != nullptr; object = object->next)
    ++count;
  return count;
}

inline bool slot_is_unused() {
  for (unsigned id = 1; id <= Config::kLargeId; ++id) {
    const CounterPair pair = my_counters(id);
    if (pair.allocs != 0 || pair.frees != 0)
      return false;
  }
  return true;
}

// Runs `body` in a thread whose slot no thread had before: used slots are held meanwhile.
inline void in_fresh_slot(const std::function<void()>& body) {
  in_thread([&body] {
    ASSERT_NE(g_threads.current_or_start(), nullptr);
    if (slot_is_unused()) {
      body();
    } else {
      in_fresh_slot(body);
    }
  });
}

// A visit to the slow path, where a thread drains what it is asked to.
inline void pass_the_slow_path() {
  std::vector<void*> blocks(1000);
  for (void*& block : blocks)
    block = allocate(48);
  for (void* block : blocks)
    deallocate(block);
}

// Hooks as they were, at the end of a test.
class HooksGuard {
 public:
  HooksGuard() : saved_(g_hooks) {}
  ~HooksGuard() { g_hooks = saved_; }
  HooksGuard(const HooksGuard&) = delete;
  HooksGuard& operator=(const HooksGuard&) = delete;

 private:
  Hooks saved_;
};

// Coverage counters of a child, which ends without exit().
extern "C" SC_WEAK void __gcov_dump();

// Runs `body` in a fork child; its result is the child's exit code (0..255), or -signal.
inline int in_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    const int code = body();
    if (__gcov_dump != nullptr)
      __gcov_dump();
    std::fflush(nullptr);
    _exit(code);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// Runs `body`, which may use GoogleTest's checks, in a child whose page heap and map are as new.
// Only private KmemCaches, large blocks and g_page_heap itself may be used there.
inline void with_new_page_heap(const std::function<void()>& body) {
  decay_everything();  // nothing of the old heap waits to be given back
  EXPECT_EQ(in_child([&body] {
              static HeapStats stats{};
              g_heap_stats = &stats;
              new (&g_page_map) PageMap;
              new (&g_page_heap) PageHeap;
              body();
              g_page_heap.validate();
              return ::testing::Test::HasFailure() ? 1 : 0;
            }),
            0)
      << "see the child's output above";
}

// Allows the process `more` bytes of address space above what it has now.
inline void limit_address_space(size_t more) {
  size_t pages = 0;
  FILE* statm = std::fopen("/proc/self/statm", "r");
  if (statm != nullptr) {
    if (std::fscanf(statm, "%zu", &pages) != 1)
      pages = 0;
    std::fclose(statm);
  }
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = pages * 4096 + more;
  setrlimit(RLIMIT_AS, &limit);
}
inline void lift_address_space_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_AS, &limit);
}

inline bool all_zero(const void* memory, size_t bytes) {
  const auto* first = static_cast<const char*>(memory);
  return bytes == 0 || (first[0] == 0 && __builtin_memcmp(first, first + 1, bytes - 1) == 0);
}

// What the page map says lies in the window, in bytes.
struct WindowTotals {
  size_t slabs = 0;
  size_t large = 0;
  size_t free = 0;
  size_t dirty = 0;
};

inline WindowTotals walk_window() {
  WindowTotals totals;
  size_t index = 0;
  while (index < g_page_map.chunk_limit()) {
    const Chunk* chunk = g_page_map.chunk(index);
    if (chunk == nullptr) {
      index += Config::kChunksPerSegment - index % Config::kChunksPerSegment;
      continue;
    }
    size_t length = 1;
    switch (chunk->kind.load(std::memory_order_relaxed)) {
      case ChunkKind::kSlab:
        totals.slabs += Config::kChunk;
        break;
      case ChunkKind::kLarge:
        length = chunk->length;
        totals.large += length * Config::kChunk;
        break;
      case ChunkKind::kFree:
        length = chunk->length;
        totals.free += length * Config::kChunk;
        if (chunk->dirty)
          totals.dirty += length * Config::kChunk;
        break;
      case ChunkKind::kNone:
        break;
    }
    index += length;
  }
  return totals;
}

// Everything that can be checked of the whole heap while no other thread is inside.
inline void validate_heap() {
  g_page_heap.validate();
  for (unsigned id = Config::kFirstMallocId; id < CacheTable::kCount; ++id) {
    if (!g_caches.ready(id))
      continue;
    g_caches.plain(id)->validate();
    g_caches.tracked(id)->validate();
  }
}

}  // namespace slabscope::testing
