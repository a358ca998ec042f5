// SPDX-License-Identifier: MIT

#include "diag/backtrace.h"

#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>
#include <vector>

#include "diag/memory_probe.h"
#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::in_child;
using testing::under_sanitizer;
using Frames = std::array<uintptr_t, abi::kMaxFrames>;

__attribute__((noinline)) unsigned recurse(unsigned depth, Frames& frames, unsigned max = 64,
                                           unsigned skip = 0) {
  if (depth == 0)
    return capture(frames.data(), max, skip);
  const unsigned count = recurse(depth - 1, frames, max, skip);
  __asm__ volatile("" ::: "memory");
  return count;
}

bool inside(uintptr_t pc, const void* function, size_t bytes) {
  return pc - reinterpret_cast<uintptr_t>(function) < bytes;
}

// Each mode in a child of its own: initialisation is once a process.
int with_mode(abi::TrackMode mode, const std::function<int()>& body) {
  return in_child([&] {
    backtrace_init(mode);
    return body();
  });
}

class BacktraceTest : public ::testing::TestWithParam<abi::TrackMode> {};

TEST_P(BacktraceTest, FramesBeginWithTheCallerAndGoOutwards) {
  EXPECT_EQ(with_mode(GetParam(),
                      [] {
                        Frames frames;
                        const unsigned count = recurse(10, frames);
                        if (count < 12)
                          return 1;
                        for (unsigned i = 0; i < 11; ++i) {
                          if (!inside(frames[i], reinterpret_cast<const void*>(&recurse), 400))
                            return 2;
                        }
                        Frames fewer;
                        if (recurse(10, fewer, 5, 3) != 5)
                          return 3;
                        // The innermost call differs; what lies between is the same call of itself.
                        return memcmp(&fewer[0], &frames[3], 5 * sizeof(uintptr_t)) == 0 ? 0 : 4;
                      }),
            0);
}

TEST_P(BacktraceTest, ADeepStackIsCutAtMax) {
  EXPECT_EQ(with_mode(GetParam(),
                      [] {
                        Frames frames;
                        return recurse(200, frames) <= abi::kMaxFrames ? 0 : 1;
                      }),
            0);
}

TEST_P(BacktraceTest, ErrnoAndDescriptorsStay) {
  EXPECT_EQ(with_mode(GetParam(),
                      [] {
                        const size_t before = testing::open_descriptors();
                        Frames frames;
                        errno = 4711;
                        for (unsigned depth = 0; depth < 20; ++depth) {
                          static_cast<void>(recurse(depth, frames));
                        }
                        if (errno != 4711)
                          return 1;
                        return testing::open_descriptors() == before ? 0 : 2;
                      }),
            0);
}

// libunwind repeats what seems to have been interrupted, which it asks errno; on a stack of its own
// each address is new to it.
TEST_P(BacktraceTest, AnInterruptedCallBeforeIsNotTakenForItsOwn) {
  if (GetParam() == abi::TrackMode::kAll && !testing::threads_may_use_libunwind())
    GTEST_SKIP() << testing::kWhyThreadsMayNot;
  EXPECT_EQ(with_mode(GetParam(),
                      [] {
                        int result = 1;
                        std::thread([&] {
                          Frames frames;
                          errno = EINTR;
                          const unsigned count = recurse(20, frames);
                          result = count < 20 ? 2 : errno != EINTR ? 3 : 0;
                        }).join();
                        return result;
                      }),
            0);
}

TEST_P(BacktraceTest, JunkInTheFramePointerIsSurvived) {
  if (under_sanitizer())
    GTEST_SKIP() << "junk may lead to what the sanitizer poisons";
  EXPECT_EQ(
      with_mode(GetParam(),
                [] {
                  Frames frames;
                  for (const uintptr_t junk :
                       {uintptr_t{1}, uintptr_t{8}, ~uintptr_t{7}, uintptr_t{0x800000000000},
                        reinterpret_cast<uintptr_t>(&frames) + 24}) {
                    unsigned count = 0;
                    __asm__ volatile(
                        "push %%rbp\n\tpush %%rbp\n\tmov %[junk], %%rbp\n\tcall *%[function]\n\t"
                        "pop %%rbp\n\tpop %%rbp"
                        : "=a"(count)
                        : [junk] "r"(junk), [function] "r"(&capture), "D"(frames.data()), "S"(64UL),
                          "d"(0UL)
                        : "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
                    if (count > abi::kMaxFrames)
                      return 1;
                  }
                  return 0;
                }),
      0);
}

TEST_P(BacktraceTest, SmallStacksAreEnough) {
  if (under_sanitizer())
    GTEST_SKIP() << "instrumented frames are larger";
  EXPECT_EQ(with_mode(GetParam(),
                      [] {
                        pthread_attr_t attributes;
                        pthread_attr_init(&attributes);
                        pthread_attr_setstacksize(&attributes, 16384);
                        for (int i = 0; i < 3; ++i) {
                          pthread_t thread;
                          const auto body = [](void*) -> void* {
                            Frames frames;
                            for (unsigned depth = 0; depth < 25; ++depth) {
                              if (recurse(depth, frames) == 0)
                                return &errno;
                            }
                            return nullptr;
                          };
                          if (pthread_create(&thread, &attributes, body, nullptr) != 0)
                            return 1;
                          void* failed = nullptr;
                          pthread_join(thread, &failed);
                          if (failed != nullptr)
                            return 2;
                        }
                        return 0;
                      }),
            0);
}

ucontext_t g_main_context;
ucontext_t g_routine_context;
unsigned g_routine_count;

void routine() {
  Frames frames;
  g_routine_count = recurse(3, frames);
  swapcontext(&g_routine_context, &g_main_context);
}

TEST_P(BacktraceTest, CoroutineStacksEndTheWalkWithoutHarm) {
  if (under_sanitizer())
    GTEST_SKIP() << "sanitizers want to be told of stack switches";
  EXPECT_EQ(with_mode(GetParam(),
                      [] {
                        constexpr size_t kBytes = 8192;  // with nothing readable below or above
                        auto* area = static_cast<char*>(mmap(nullptr, 3 * kBytes, PROT_NONE,
                                                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
                        mprotect(area + kBytes, kBytes, PROT_READ | PROT_WRITE);
                        getcontext(&g_routine_context);
                        g_routine_context.uc_stack.ss_sp = area + kBytes;
                        g_routine_context.uc_stack.ss_size = kBytes;
                        makecontext(&g_routine_context, routine, 0);
                        swapcontext(&g_main_context, &g_routine_context);
                        return g_routine_count >= 1 ? 0 : 1;
                      }),
            0);
}

unsigned g_handler_count;
void on_signal(int) {
  Frames frames;
  g_handler_count = capture(frames.data(), 64, 0);
}

TEST_P(BacktraceTest, SignalHandlersCanCapture) {
  EXPECT_EQ(with_mode(GetParam(),
                      [] {
                        signal(SIGUSR1, on_signal);
                        raise(SIGUSR1);
                        return g_handler_count >= 6 ? 0 : 1;  // and on through the interrupted code
                      }),
            0);
}

TEST_P(BacktraceTest, ThreadsCaptureAtTheSameTime) {
  if (GetParam() == abi::TrackMode::kAll && !testing::threads_may_use_libunwind())
    GTEST_SKIP() << testing::kWhyThreadsMayNot;
  EXPECT_EQ(with_mode(GetParam(),
                      [] {
                        std::vector<std::thread> threads;
                        std::atomic<bool> bad{false};
                        for (int t = 0; t < 4; ++t) {
                          threads.emplace_back([&] {
                            Frames frames;
                            for (unsigned i = 0; i < 300; ++i) {
                              if (recurse(i % 30, frames) == 0)
                                bad = true;
                            }
                          });
                        }
                        for (auto& thread : threads)
                          thread.join();
                        return bad ? 1 : 0;
                      }),
            0);
}

// A stack that is realigned finds its caller by a DWARF expression.
__attribute__((noinline)) unsigned realigned(Frames& frames) {
  alignas(128) volatile char block[256];
  block[0] = 1;
  const unsigned count = recurse(2, frames);
  return count + block[0] - 1;
}

TEST_P(BacktraceTest, AgreesWithLibgcc) {
  EXPECT_EQ(with_mode(GetParam(),
                      [] {
                        Frames frames;
                        const unsigned count = realigned(frames);
                        std::array<void*, 64> reference;
                        const int all = backtrace(reference.data(), 64);
                        // Outwards from here both saw the same, but for the line in this function.
                        const auto own = static_cast<unsigned>(all) - 1;
                        if (count < own + 4)
                          return 1;
                        return memcmp(&frames[count - own + 1], &reference[2],
                                      (own - 1) * sizeof(void*)) == 0
                                   ? 0
                                   : 2;
                      }),
            0);
}

TEST_P(BacktraceTest, ANestedCaptureGivesNothing) {
  EXPECT_EQ(with_mode(GetParam(), [] { return in_capture() ? 1 : 0; }), 0);
}

INSTANTIATE_TEST_SUITE_P(Modes, BacktraceTest,
                         ::testing::Values(abi::TrackMode::kOff, abi::TrackMode::kSampled,
                                           abi::TrackMode::kAll));

// A daemon closes all descriptors and gets the numbers back for a socket: what flows through it
// must be its own. (libunwind 1.6 alone puts zeroes into it.)
TEST(Backtrace, LibunwindNeverTouchesTheProgramsDescriptors) {
  if (!testing::threads_may_use_libunwind())
    GTEST_SKIP() << testing::kWhyThreadsMayNot;
  EXPECT_EQ(with_mode(abi::TrackMode::kAll,
                      [] {
                        Frames frames;
                        static_cast<void>(recurse(5, frames));
                        for (int fd = 3; fd < 64; ++fd)
                          close(fd);
                        int ends[2];
                        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
                          return 1;
                        if (write(ends[0], "HELLO", 5) != 5)
                          return 2;
                        std::thread([] {
                          Frames inner;
                          for (unsigned depth = 0; depth < 40; ++depth) {
                            static_cast<void>(recurse(depth, inner));
                          }
                        }).join();
                        char got[16] = {};
                        if (recv(ends[1], got, sizeof got, MSG_DONTWAIT) != 5)
                          return 3;
                        return memcmp(got, "HELLO", 5) == 0 ? 0 : 4;
                      }),
            0);
}

// Another thread holds the loader's lock (inside dl_iterate_phdr) and waits for us: a cold capture
// must not wait for that lock.
std::atomic<int> g_phase;
int hold_loader(dl_phdr_info*, size_t, void*) {
  g_phase = 1;
  g_phase.notify_all();
  g_phase.wait(1);
  return 1;
}

TEST(Backtrace, NoLoaderLockIsTaken) {
  if (under_sanitizer())
    GTEST_SKIP() << "sanitizers take it themselves";
  EXPECT_EQ(with_mode(abi::TrackMode::kAll,
                      [] {
                        if (unwinder() != Unwinder::kLibunwind)
                          return 77;
                        std::thread holder([] { dl_iterate_phdr(hold_loader, nullptr); });
                        g_phase.wait(0);
                        Frames frames;
                        alarm(10);  // if it hangs
                        static_cast<void>(recurse(17, frames));
                        alarm(0);
                        g_phase = 2;
                        g_phase.notify_all();
                        holder.join();
                        return 0;
                      }) %
                77,
            0);
}

TEST(MemoryProbe, ReadableMeansReadable) {
  auto* area = static_cast<char*>(
      mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const uintptr_t at = reinterpret_cast<uintptr_t>(area);
  EXPECT_TRUE(is_readable(at));
  mprotect(area + 4096, 4096, PROT_NONE);
  EXPECT_TRUE(is_readable(at + 4088));
  EXPECT_FALSE(is_readable(at + 4092));
  EXPECT_FALSE(is_readable(at + 4096));
  EXPECT_FALSE(is_readable(0));
  EXPECT_FALSE(is_readable(~uintptr_t{7}));
  sigset_t before;
  sigset_t after;
  sigprocmask(SIG_SETMASK, nullptr, &before);
  memset(area, 0xff, 8);
  EXPECT_TRUE(is_readable(at));
  sigprocmask(SIG_SETMASK, nullptr, &after);
  EXPECT_EQ(memcmp(&before, &after, 8), 0) << "the signal mask must not change";
  munmap(area, 8192);
}

}  // namespace
}  // namespace slabscope::diag
