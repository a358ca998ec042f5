// SPDX-License-Identifier: MIT
//
// What quick_walk takes over from the last walk is what a walk of its own would have found. The
// tests of cfi_walk compare both too, at each of their stacks.
#include "diag/quick_walk.h"

#include <random>
#include <thread>
#include <vector>

#include "slab/base/test_point.h"
#include "tests/diag/cfi_reference.h"
#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::is_same;
using testing::t_walks;
using testing::walk_both;

struct Tally {
  unsigned complete = 0;
  unsigned wrong = 0;
};

void judge(Tally& tally) {
  walk_both();
  tally.complete += t_walks.quick.count != 0 ? 1 : 0;
  tally.wrong += is_same() ? 0 : 1;
}

// Two functions alike: frames of the same size at the same places, with other return addresses.
template <unsigned kWhich>
SC_NOINLINE void twin(void (*body)(Tally&), Tally& tally) {
  body(tally);
  __asm__ volatile("# %0" : : "i"(kWhich) : "memory");
}

// Frames of different forms, as the dice say: by sp, by fp, with room that differs.
class RandomStack {
 public:
  explicit RandomStack(unsigned seed) : dice_(seed) {}

  // From here outwards the stack stays, inwards it differs from walk to walk.
  SC_NOINLINE void grow(unsigned depth, Tally& tally) {
    for (unsigned i = 0; i < 3; ++i) {
      if (depth > 0 && dice_() % 4 != 0) {
        if (dice_() % 2 == 0)
          by_sp(depth - 1, tally);
        else
          by_fp(depth - 1, tally);
      } else if (dice_() % 2 == 0) {
        twin<0>(judge, tally);
      } else {
        twin<1>(judge, tally);
      }
    }
    __asm__ volatile("" ::: "memory");
  }

 private:
  SC_NOINLINE void by_sp(unsigned depth, Tally& tally) {
    grow(depth, tally);
    __asm__ volatile("" ::: "memory");
  }
  SC_NOINLINE void by_fp(unsigned depth, Tally& tally) {
    auto* room = static_cast<volatile char*>(__builtin_alloca(16 * (1 + dice_() % 3)));
    room[0] = 1;
    grow(depth, tally);
    room[1] = room[0];
  }

  std::mt19937 dice_;
};

TEST(QuickWalk, FindsWhatAWalkOfItsOwnFinds) {
  Tally tally;
  for (unsigned seed = 0; seed < 40; ++seed)
    RandomStack(seed).grow(7, tally);
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_GT(tally.complete, 500U);
}

TEST(QuickWalk, ACallerAtTheSamePlaceIsNotTakenForTheLastOne) {
  Tally tally;
  for (unsigned i = 0; i < 10; ++i) {
    twin<0>(judge, tally);
    const uintptr_t one = t_walks.quick.frames[1];
    twin<1>(judge, tally);
    ASSERT_EQ(tally.complete, 2 * (i + 1));
    EXPECT_NE(one, t_walks.quick.frames[1]);
  }
  EXPECT_EQ(tally.wrong, 0U);
}

SC_NOINLINE void recurse(unsigned depth, Tally& tally) {
  if (depth == 0)
    judge(tally);
  else
    recurse(depth - 1, tally);
  __asm__ volatile("" ::: "memory");
}

// A walk that was cut knows nothing of what lies further out: the next one goes on by itself.
TEST(QuickWalk, GoesOnWhereTheLastWalkWasCut) {
  Tally tally;
  for (const unsigned depth : {150U, 120U, 40U, 90U, 3U, 200U, 10U})
    recurse(depth, tally);
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_EQ(tally.complete, 7U);
}

TEST(QuickWalk, ThreadsDoNotMixTheirStacks) {
  std::vector<Tally> tallies(12);
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < tallies.size(); ++id) {
    threads.emplace_back([id, &tallies] {
      for (unsigned seed = 0; seed < 10; ++seed)
        RandomStack(seed * 100 + id).grow(6, tallies[id]);
    });
  }
  for (auto& thread : threads)
    thread.join();
  for (const Tally& tally : tallies) {
    EXPECT_EQ(tally.wrong, 0U);
    EXPECT_GT(tally.complete, 0U);
  }
}

// The same call of the same function from the same place, and sp, but another frame pointer below.
SC_NOINLINE void innermost(size_t bytes, Tally& tally) {
  auto* room = static_cast<volatile char*>(__builtin_alloca(bytes));
  room[0] = 1;
  judge(tally);
  room[1] = room[0];
}
SC_NOINLINE void between(Tally& tally) {
  volatile size_t bytes = 16;
  innermost(bytes, tally);
  __asm__ volatile("" ::: "memory");
}
// What earlier calls left there must not look like frames.
void wipe(volatile char* room, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    room[i] = 0;
}
SC_NOINLINE void inner(size_t bytes, Tally& tally) {
  auto* room = static_cast<volatile char*>(__builtin_alloca(bytes));
  wipe(room, bytes);
  between(tally);
  __asm__ volatile("" : : "r"(room) : "memory");
}
SC_NOINLINE void outer(size_t bytes, Tally& tally) {
  auto* room = static_cast<volatile char*>(__builtin_alloca(bytes));
  wipe(room, bytes);
  inner(128 - bytes, tally);
  __asm__ volatile("" : : "r"(room) : "memory");
}

TEST(QuickWalk, AFramePointerThatChangedIsSeen) {
  Tally tally;
  for (const size_t bytes : {16, 64, 32, 96, 16, 80})
    outer(bytes, tally);
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_EQ(tally.complete, 6U);
}

// ---- places ---------------------------------------------------------------------------------

bool walk_here() {
  uintptr_t frames[8];
  StackWindow window;
  return quick_walk(frames, 8, current_registers(), window).complete;
}

// What happens while `g_to_hold` walks of this thread hold a place each.
unsigned g_to_hold = 0;
int (*g_meanwhile)() = nullptr;
int g_result = 0;

void hold_another(TestPoint point, unsigned) {
  if (point != TestPoint::kWalkHeld || g_to_hold == 0)
    return;
  --g_to_hold;
  if (g_to_hold == 0)
    g_result = g_meanwhile();
  else
    static_cast<void>(walk_here());
}

int while_holding(unsigned places, int (*body)()) {
  g_to_hold = places;
  g_meanwhile = body;
  g_result = -1;
  g_test_point.store(hold_another);
  static_cast<void>(walk_here());
  g_test_point.store(nullptr);
  return g_result;
}

TEST(QuickWalk, WithoutAFreePlaceItIsIncomplete) {
  constexpr unsigned kTries = 4;
  EXPECT_EQ(while_holding(kTries - 1, [] { return walk_here() ? 1 : 0; }), 1);
  EXPECT_EQ(while_holding(kTries, [] { return walk_here() ? 1 : 0; }), 0);
  EXPECT_TRUE(walk_here());
}

TEST(QuickWalk, AForkChildHasThePlacesOfThreadsThatItDoesNotHave) {
  const int status = while_holding(4, [] {
    return testing::in_child([] {
      const bool before = walk_here();
      quick_walk_after_fork();
      return !before && walk_here() ? 0 : 1;
    });
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace slabscope::diag
