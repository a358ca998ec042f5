// SPDX-License-Identifier: MIT
//
// What quick_walk takes over from the last walk is what a walk of its own would have found. The
// tests of cfi_walk compare both too, at each of their stacks.
#include "diag/quick_walk.h"

#include <algorithm>
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
  explicit RandomStack(unsigned seed, void (*body)(Tally&) = judge) : dice_(seed), body_(body) {}

  // From here outwards the stack stays, inwards it differs from walk to walk.
  SC_NOINLINE void grow(unsigned depth, Tally& tally) {
    for (unsigned i = 0; i < 3; ++i) {
      if (depth > 0 && dice_() % 4 != 0) {
        if (dice_() % 2 == 0)
          by_sp(depth - 1, tally);
        else
          by_fp(depth - 1, tally);
      } else if (dice_() % 2 == 0) {
        twin<0>(body_, tally);
      } else {
        twin<1>(body_, tally);
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
  void (*body_)(Tally&);
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

// ---- names ----------------------------------------------------------------------------------

// All stacks that were seen, each with the name it got.
class Names {
 public:
  // The reference's frames are those of the place where the walk begins.
  void walk_and_name() {
    uintptr_t frames[abi::kMaxFrames];
    const CfiRegisters here = current_registers();
    const uintptr_t page = here.sp & ~uintptr_t{4095};
    StackWindow window(page, page + 4096);  // as capture() knows it; walks find out the rest
    std::vector<uintptr_t> truth(abi::kMaxFrames);
    truth.resize(cfi_walk(truth.data(), abi::kMaxFrames, here, window));
    WalkName name;
    const QuickWalk walk = quick_walk_named(frames, abi::kMaxFrames, here, window, name);
    if (name.name != 0) {
      ++known;
      wrong += stacks_[name.name - 1] == truth ? 0U : 1U;
    } else if (walk.complete) {
      ++walked;
      wrong += std::vector(frames, frames + walk.count) == truth ? 0U : 1U;
      const auto seen = std::find(stacks_.begin(), stacks_.end(), truth);
      const auto index = seen - stacks_.begin();
      if (seen == stacks_.end())
        stacks_.push_back(truth);
      name_walk(name, static_cast<uint32_t>(index) + 1);
    }
  }

  unsigned known = 0;
  unsigned walked = 0;
  unsigned wrong = 0;

 private:
  std::vector<std::vector<uintptr_t>> stacks_;
};
thread_local Names* t_names = nullptr;

void judge_names(Tally&) {
  t_names->walk_and_name();
}

// For the process, as the names that are remembered are: another test's would be taken for ours.
Names& names() {
  static Names all;
  return all;
}

TEST(QuickWalkNames, ANameIsFoundForTheVeryStackThatItWasGivenTo) {
  Tally tally;
  t_names = &names();
  for (unsigned repeat = 0; repeat < 3; ++repeat) {
    for (unsigned seed = 0; seed < 40; ++seed)
      RandomStack(seed, judge_names).grow(7, tally);
  }
  EXPECT_EQ(names().wrong, 0U);
  EXPECT_GT(names().known, 500U);
  EXPECT_GT(names().walked, 100U);
}

TEST(QuickWalkNames, ACallerAtTheSamePlaceIsNotTakenForTheLastOne) {
  Tally tally;
  t_names = &names();
  const unsigned before = names().known;
  for (unsigned i = 0; i < 50; ++i) {
    twin<0>(judge_names, tally);
    twin<1>(judge_names, tally);
  }
  EXPECT_EQ(names().wrong, 0U);
  EXPECT_GT(names().known, before + 50);
}

// A walk that another one of its place followed is not what its memory holds any more.
TEST(QuickWalkNames, AWalkThatIsNotTheLastOneIsNotNamed) {
  uintptr_t frames[8];
  StackWindow window;
  const CfiRegisters here = current_registers();
  WalkName first;
  WalkName second;
  ASSERT_TRUE(quick_walk_named(frames, 8, here, window, first).complete);
  ASSERT_TRUE(quick_walk(frames, 7, here, window).complete);
  name_walk(first, 1);
  ASSERT_TRUE(quick_walk_named(frames, 8, here, window, second).complete);
  EXPECT_EQ(second.name, 0U);
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
