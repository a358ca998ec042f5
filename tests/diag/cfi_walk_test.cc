// SPDX-License-Identifier: MIT

#include "diag/cfi_walk.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "tests/diag/cfi_reference.h"
#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::expect_same_twice;
using testing::is_same;
using testing::kMaxFrames;
using testing::t_walks;
using testing::under_sanitizer;
using testing::walk_both;

constexpr size_t kPage = 4096;

#if defined(__OPTIMIZE__)
constexpr bool kOptimized = true;
#else
constexpr bool kOptimized = false;
#endif

SC_NOINLINE void recurse(unsigned depth) {
  if (depth == 0)
    walk_both();
  else
    recurse(depth - 1);
  __asm__ volatile("" ::: "memory");
}

TEST(CfiWalk, RecursionIsLibgccs) {
  for (const unsigned depth : {0U, 1U, 10U, 100U})
    expect_same_twice(depth + 5, [=] { recurse(depth); });
}

TEST(CfiWalk, StopsAtMax) {
  uintptr_t frames[3] = {0, 0, 99};
  StackWindow window;
  EXPECT_EQ(cfi_walk(frames, 0, current_registers(), window), 0U);
  EXPECT_EQ(cfi_walk(frames, 2, current_registers(), window), 2U);
  EXPECT_EQ(frames[2], 99U);
}

TEST(CfiWalk, TheFirstFrameIsTheReturnAddress) {
  static uintptr_t expected = 0;
  struct Callee {
    static SC_NOINLINE uintptr_t first() {
      expected = reinterpret_cast<uintptr_t>(SC_RETURN_ADDRESS());
      uintptr_t frame = 0;
      StackWindow window;
      return cfi_walk(&frame, 1, current_registers(), window) == 1 ? frame : 0;
    }
  };
  const uintptr_t first = Callee::first();
  EXPECT_EQ(first, expected);
}

// ---- through libraries ----------------------------------------------------------------------

int compare_ints(const void* left, const void* right) {
  walk_both();
  return *static_cast<const int*>(left) - *static_cast<const int*>(right);
}

TEST(CfiWalk, ThroughLibcCallbacks) {
  expect_same_twice(7, [] {
    std::array<int, 5> values{5, 3, 1, 4, 2};
    qsort(values.data(), values.size(), sizeof(int), compare_ints);
  });
  expect_same_twice(7, [] {
    static pthread_once_t once;
    once = PTHREAD_ONCE_INIT;
    pthread_once(&once, [] { walk_both(); });
  });
  expect_same_twice(7, [] {
    dl_iterate_phdr(
        [](dl_phdr_info*, size_t, void*) {
          walk_both();
          return 1;
        },
        nullptr);
  });
}

TEST(CfiWalk, ThroughTemplatesAndFunctionObjects) {
  expect_same_twice(7, [] {
    std::vector<int> values{9, 8, 7, 6, 5, 4, 3, 2, 1};
    std::sort(values.begin(), values.end(), [](int left, int right) {
      walk_both();
      return left < right;
    });
  });
  expect_same_twice(7, [] {
    const std::function<void(int)> function = [](int depth) {
      recurse(static_cast<unsigned>(depth));
    };
    function(3);
  });
}

// A frame realigned to more than the ABI's 16 bytes: its CFA is an expression.
SC_NOINLINE void realigned(int depth) {
  alignas(64) volatile char aligned[64];
  aligned[0] = static_cast<char>(depth);
  auto* grown = static_cast<volatile char*>(__builtin_alloca(static_cast<size_t>(depth) * 16 + 16));
  grown[0] = aligned[0];
  if (depth == 0)
    walk_both();
  else
    realigned(depth - 1);
  aligned[1] = grown[0];
}

TEST(CfiWalk, ThroughRealignedFrames) {
  expect_same_twice(12, [] { realigned(6); });
}

SC_NOINLINE void large_frame() {
  volatile char large[3 << 20];
  large[0] = 1;
  walk_both();
  large[1] = large[0];
}

TEST(CfiWalk, ThroughAFrameOfMegabytes) {
  expect_same_twice(5, [] { large_frame(); });
}

TEST(CfiWalk, ThroughALibraryLoadedAndUnloaded) {
  if (under_sanitizer())
    GTEST_SKIP() << "a second libc";
  using Sort = void (*)(void*, size_t, size_t, int (*)(const void*, const void*));
  uintptr_t inside = 0;
  for (int i = 0; i < 3; ++i) {
    void* library = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_LAZY);
    ASSERT_NE(library, nullptr) << dlerror();
    const auto sort = reinterpret_cast<Sort>(dlsym(library, "qsort"));
    ASSERT_NE(sort, nullptr);
    expect_same_twice(7, [=] {
      std::array<int, 5> values{5, 3, 1, 4, 2};
      sort(values.data(), values.size(), sizeof(int), compare_ints);
    });
    inside = t_walks.ours.frames[2];
    dlclose(library);
  }
  // No longer mapped: the walk goes by the frame pointer, or not at all.
  CfiRegisters start = current_registers();
  start.pc = inside;
  start.fp = 0;
  StackWindow window;
  uintptr_t frame;
  EXPECT_EQ(cfi_walk(&frame, 1, start, window), 0U);
}

// ---- threads, coroutines --------------------------------------------------------------------

TEST(CfiWalk, InThreadsAndFromManyAtOnce) {
  std::atomic<unsigned> failures{0};
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < 8; ++id) {
    threads.emplace_back([id, &failures] {
      for (unsigned i = 0; i < 300; ++i) {
        recurse((i + id) % 20);
        if (!is_same())
          ++failures;
      }
    });
  }
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(failures, 0U);
}

class Coroutine {
 public:
  explicit Coroutine(size_t bytes) : bytes_(bytes) {
    base_ = static_cast<char*>(
        mmap(nullptr, bytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(stack(), bytes, PROT_READ | PROT_WRITE);
  }
  ~Coroutine() { munmap(base_, bytes_ + 2 * kPage); }
  Coroutine(const Coroutine&) = delete;
  Coroutine& operator=(const Coroutine&) = delete;

  [[nodiscard]] char* stack() const { return base_ + kPage; }
  [[nodiscard]] size_t bytes() const { return bytes_; }

  void run(void (*body)()) {
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack();
    context.uc_stack.ss_size = bytes_;
    context.uc_link = &back_;
    makecontext(&context, body, 0);
    swapcontext(&back_, &context);
  }

 private:
  size_t bytes_;
  char* base_;
  ucontext_t back_{};
};

TEST(CfiWalk, InACoroutineBetweenGuardPages) {
  if (under_sanitizer())
    GTEST_SKIP() << "a stack the sanitizer does not know";
  expect_same_twice(10, [] {
    Coroutine coroutine(size_t{64} << 10U);
    coroutine.run([] { recurse(8); });
  });
}

// ---- junk -----------------------------------------------------------------------------------

TEST(CfiWalk, JunkRegistersEndTheWalk) {
  if (under_sanitizer())
    GTEST_SKIP() << "it reads what the sanitizer poisons";
  const CfiRegisters here = current_registers();
  std::mt19937_64 random(1);
  std::vector<uintptr_t> values{0,
                                8,
                                ~uintptr_t{0},
                                ~uintptr_t{7},
                                uintptr_t{1} << 47U,
                                (uintptr_t{1} << 47U) - 8,
                                here.pc,
                                here.sp,
                                here.sp + 1,
                                here.sp - (1U << 20U),
                                here.sp + (64U << 20U),
                                reinterpret_cast<uintptr_t>(&values),
                                reinterpret_cast<uintptr_t>(&qsort),
                                reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, "raise"))};
  for (int i = 0; i < 8; ++i)
    values.push_back(random());
  std::array<uintptr_t, kMaxFrames> frames{};
  const auto any = [&] { return values[random() % values.size()]; };
  for (int i = 0; i < 50000; ++i) {
    CfiRegisters start = here;
    if (i % 3 != 0)
      start.pc = i % 3 == 1 ? any() : here.pc + random() % 4096;
    start.sp = any();
    start.fp = any();
    start.bx = any();
    StackWindow window;
    errno = 7;
    ASSERT_LE(cfi_walk(frames.data(), kMaxFrames, start, window), kMaxFrames);
    ASSERT_EQ(errno, 7);
  }
}

TEST(CfiWalk, JunkOnTheStackEndsTheWalk) {
  if (under_sanitizer())
    GTEST_SKIP() << "it reads what the sanitizer poisons";
  std::mt19937_64 random(2);
  const CfiRegisters here = current_registers();
  const auto code = reinterpret_cast<uintptr_t>(dlsym(RTLD_DEFAULT, "qsort")) & ~uintptr_t{0xfffff};
  Coroutine stack(size_t{32} << 10U);
  std::array<uintptr_t, kMaxFrames> frames{};
  unsigned longest = 0;
  for (int i = 0; i < 3000; ++i) {
    auto* words = reinterpret_cast<uintptr_t*>(stack.stack());
    const size_t count = stack.bytes() / sizeof(uintptr_t);
    for (size_t word = 0; word < count; ++word) {
      const uintptr_t value = random();
      switch (value >> 62U) {
        case 0:  // somewhere in libc's code
          words[word] = code + (value & 0x1fffffU);
          break;
        case 1:  // further up this stack
          words[word] = reinterpret_cast<uintptr_t>(&words[word + (value & 63U) + 1]);
          break;
        case 2:
          words[word] = here.pc + (value & 0xffffU);
          break;
        default:
          words[word] = value;
      }
    }
    CfiRegisters start = here;
    start.pc = code + random() % 0x1fffff;
    start.sp = reinterpret_cast<uintptr_t>(words);
    start.fp = start.sp + 64;
    StackWindow window;
    longest = std::max(longest, cfi_walk(frames.data(), kMaxFrames, start, window));
  }
  EXPECT_GT(longest, 3U);
}

TEST(CfiWalk, CodeWithoutRulesIsPassedByFramePointers) {
  alignas(16) uintptr_t stack[64] = {};
  const auto at = [&](size_t i) { return reinterpret_cast<uintptr_t>(&stack[i]); };
  void* code = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const auto pc = reinterpret_cast<uintptr_t>(code) + 16;
  stack[4] = at(10);
  stack[5] = pc + 1;
  stack[10] = at(2);  // downwards: junk
  stack[11] = pc + 2;
  CfiRegisters start;
  start.pc = pc;
  start.sp = at(0);
  start.fp = at(4);
  uintptr_t frames[8];
  StackWindow window;
  ASSERT_EQ(cfi_walk(frames, 8, start, window), 2U);
  EXPECT_EQ(frames[0], pc + 1);
  EXPECT_EQ(frames[1], pc + 2);
  munmap(code, kPage);
}

// ---- cost -----------------------------------------------------------------------------------

CfiRegisters g_start;
std::array<uintptr_t, kMaxFrames> g_frames;
unsigned g_count = 0;
size_t g_stack_used = 0;

constexpr size_t kPainted = size_t{32} << 10U;

SC_NOINLINE void walk_from_start() {
  StackWindow window;
  g_count = cfi_walk(g_frames.data(), kMaxFrames, g_start, window);
}

// Walks g_start on a stack of its own, painted below the caller.
void walk_on_painted_stack() {
  auto* top = static_cast<char*>(__builtin_frame_address(0)) - 512;
  char* bottom = top - kPainted;
  for (char* at = bottom; at < top; ++at)
    *static_cast<volatile char*>(at) = 0x5a;
  walk_from_start();
  const char* at = bottom;
  while (at < top && *static_cast<const volatile char*>(at) == 0x5a)
    ++at;
  g_stack_used = static_cast<size_t>(top - at) + 512;
}

TEST(CfiWalk, NeedsLittleStack) {
  if (under_sanitizer())
    GTEST_SKIP() << "frames are larger";
  // Through a signal frame, whose rules are all expressions and never cached.
  signal(SIGUSR1, [](int) {
    g_start = current_registers();
    Coroutine painted(size_t{64} << 10U);
    painted.run(walk_on_painted_stack);
  });
  raise(SIGUSR1);
  signal(SIGUSR1, SIG_DFL);
  EXPECT_GE(g_count, 8U);
  printf("stack used by a cold walk: %zu bytes\n", g_stack_used);
  EXPECT_LT(g_stack_used, kOptimized ? 1536U : 2560U);
}

template <unsigned kDepth>
SC_NOINLINE void distinct_frames(void (*body)()) {
  if constexpr (kDepth == 0)
    body();
  else
    distinct_frames<kDepth - 1>(body);
  __asm__ volatile("" ::: "memory");
}

TEST(CfiWalk, TimePerFrame) {
  distinct_frames<100>([] {
    using Clock = std::chrono::steady_clock;
    const auto time = [] {
      const auto begin = Clock::now();
      g_start = current_registers();
      walk_from_start();
      const std::chrono::duration<double, std::nano> passed = Clock::now() - begin;
      return passed.count() / g_count;
    };
    const double cold = time();
    std::vector<double> times(2000);
    std::generate(times.begin(), times.end(), time);
    std::nth_element(times.begin(), times.begin() + 1000, times.end());
    const double warm = times[1000];
    walk_both();
    const auto begin = Clock::now();
    for (int i = 0; i < 100; ++i)
      testing::walk_reference();
    const std::chrono::duration<double, std::nano> reference = Clock::now() - begin;
    printf("%u frames: cold %.0f ns a frame, warm %.1f ns; libgcc %.0f ns\n", g_count, cold, warm,
           reference.count() / 100 / g_count);
  });
}

}  // namespace
}  // namespace slabscope::diag
