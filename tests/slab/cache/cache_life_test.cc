// SPDX-License-Identifier: MIT
//
// The races that object caches elsewhere had, one test each. S1 to S13 are the points of the review
// of Linux' first fix, the others are named after the commits that mended what came later, or after
// what happens. docs/testing.md has the table. tests/mutations breaks each rule on purpose.

#include <gtest/gtest.h>

#include <array>
#include <barrier>
#include <string>
#include <thread>
#include <vector>

#include "tests/slab/cache/life_fixture.h"

namespace slabscope {
namespace {

using testing::args_with;
using testing::AtPoint;
using testing::FakeRcu;
using testing::in_thread;
using testing::is_gone;
using testing::listed_names;
using testing::make_cache;
using testing::shown;
using testing::Signal;
using testing::SlabThread;
using testing::stats_of;

class CacheLife : public testing::LifeTest {};

// Everything a caller can read of a cache.
std::string everything(slab_cache* cache) {
  std::string text;
  for (const char* name :
       {"object_size", "slab_size", "objs_per_slab", "order", "align", "aliases", "ctor", "objects",
        "total_objects", "slabs", "partial", "min_partial", "destroy_by_rcu", "store_user"}) {
    text += shown(cache, name);
  }
  const slab_cache_stats stats = stats_of(cache);
  return text + slab_cache_name(cache) + std::to_string(stats.active_objects) + " " +
         std::to_string(stats.allocations_total) + " " + std::to_string(stats.frees_total);
}

// ---- the review -----------------------------------------------------------------------------

TEST_F(CacheLife, S1_SlabsAreRetiredThenReadersLeaveThenTheCacheIsReleased) {
  static std::vector<std::string> steps;
  static slab_cache* cache = nullptr;
  steps.clear();
  // What retires a slab reads the cache: it must still be this one.
  const auto destructor = [](void*) {
    EXPECT_EQ(slab_cache_size(cache), 48U);
    EXPECT_STREQ(slab_cache_name(cache), "ordered");
    if (steps.back() != "retired")
      steps.emplace_back("retired");
  };
  cache = make_cache("ordered", 48,
                     args_with(SLAB_TYPESAFE_BY_RCU, nullptr, destructor, FakeRcu::flavor()));
  FakeRcu::on_barrier = [] {
    steps.emplace_back("callbacks");
    EXPECT_NE(slab_cache_find("ordered"), nullptr);
    slab_cache_put(cache);
  };
  FakeRcu::on_wait = [] {
    steps.emplace_back("grace period");
    EXPECT_EQ(slab_cache_find("ordered"), nullptr) << "readers can still find it by name";
    EXPECT_GT(stats_of(cache).slabs, 0U) << "memory went before its readers";
  };
  slab_cache_free(cache, slab_cache_alloc(cache));
  const AtPoint at(TestPoint::kReleased, [] {
    steps.emplace_back("released");
    EXPECT_TRUE(is_gone(cache));
  });
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(steps, (std::vector<std::string>{"callbacks", "grace period", "retired", "released"}));
}

TEST_F(CacheLife, S2_NothingIsLockedWhileADestroyDecides) {
  slab_cache* cache = make_cache("deciding", 64);
  void* kept = slab_cache_alloc(cache);
  const AtPoint at(TestPoint::kDestroyJudged, [] {
    in_thread([] {
      slab_cache* other = make_cache("meanwhile", 64);
      slab_cache_free(other, slab_cache_alloc(other));
      EXPECT_EQ(listed_names().size(), 1U);  // the one that is dying is not offered
      slab_cache_put(slab_cache_find("meanwhile"));
      EXPECT_EQ(slab_cache_destroy(other), 0);
    });
  });
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  EXPECT_TRUE(AtPoint::seen());
  slab_cache_free(cache, kept);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// A cache that is being destroyed misses no thread that starts meanwhile.
TEST_F(CacheLife, S3_AThreadThatStartsWhileADestroyDecidesIsPrepared) {
  std::vector<slab_cache*> fillers;  // so that the id's counters have a page of their own
  for (int i = 0; i < 300; ++i)
    fillers.push_back(make_cache(("filler-" + std::to_string(i)).c_str(), 64));
  static slab_cache* cache = nullptr;
  cache = fillers.back();
  void* kept = slab_cache_alloc(cache);
  static std::atomic<uintptr_t> prepared_from{0};
  prepared_from = 0;
  g_hooks.counters_needed = [](CounterPair* pair) {
    const auto at = reinterpret_cast<uintptr_t>(pair);
    if (at > prepared_from)
      prepared_from = at;
    return true;
  };
  Signal refused;
  SlabThread late([] {});
  const AtPoint at(TestPoint::kDestroyJudged, [&] {
    Signal started;
    late.join();
    late = SlabThread([&] {
      testing::in_fresh_slot([&] {
        CounterPair* mine =
            counters_of(testing::my_bin(reinterpret_cast<ObjectCache*>(cache)->id()));
        EXPECT_GE(prepared_from.load() | 4095, reinterpret_cast<uintptr_t>(mine))
            << "the new thread's counters of this cache were forgotten";
        EXPECT_EQ(slab_cache_alloc(cache), nullptr);
        started.set();
        refused.wait();
        void* object = slab_cache_alloc(cache);
        EXPECT_NE(object, nullptr);
        EXPECT_EQ(stats_of(cache).active_objects, 2U);
        slab_cache_free(cache, object);
      });
    });
    started.wait();
  });
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  refused.set();
  late.join();
  slab_cache_free(cache, kept);
  for (slab_cache* filler : fillers)
    EXPECT_EQ(slab_cache_destroy(filler), 0);
}

TEST_F(CacheLife, S4_ARefusedDestroyPutsEverythingBack) {
  std::array<slab_cache*, 3> caches{make_cache("left", 64), make_cache("middle", 80),
                                    make_cache("right", 64)};
  void* kept = slab_cache_alloc(caches[1]);
  const std::vector<std::string> names = listed_names();
  const std::string before = everything(caches[1]);
  EXPECT_EQ(slab_cache_destroy(caches[1]), -EBUSY);
  EXPECT_EQ(listed_names(), names);
  EXPECT_EQ(everything(caches[1]), before);
  void* more = slab_cache_alloc(caches[1]);
  EXPECT_NE(more, nullptr);
  slab_cache_free(caches[1], more);
  slab_cache_free(caches[1], kept);
  for (slab_cache* cache : caches)
    EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheLife, S9_ACacheThatCannotBePublishedWorks) {
  g_hooks.cache_created = [](const CacheInfo&) -> CacheStats* { return nullptr; };
  slab_cache* cache = make_cache("unseen", 64);
  void* object = slab_cache_alloc(cache);
  EXPECT_EQ(stats_of(cache).slabs, 1U);
  EXPECT_EQ(shown(cache, "objects"), "1 N0=1\n");
  slab_cache_free(cache, object);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// Runs `body` when there is one id left: what needs two fails half-way.
void with_one_id_left(const std::function<void()>& body) {
  std::vector<slab_cache*> caches;
  for (int i = 0; i < 5000; ++i) {
    slab_cache* cache = slab_cache_create(("id-" + std::to_string(i)).c_str(), 64, nullptr);
    if (cache == nullptr)
      break;
    caches.push_back(cache);
  }
  EXPECT_EQ(slab_cache_destroy(caches.back()), 0);
  caches.pop_back();
  body();
  for (slab_cache* cache : caches)
    EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// Also dde3c6b72a16 and its revert: whoever fails half-way frees once, and one frees.
TEST_F(CacheLife, S9_AFailedCreateLeavesNothingAndIsReleasedOnce) {
  if (testing::kThreadSanitizer)
    GTEST_SKIP() << "one thread alone, and thousands of caches";
  with_one_id_left([] {
    const slab_cache_args merge = args_with(SLAB_MERGE);
    const unsigned before = g_object_caches.in_use();
    EXPECT_EQ(slab_cache_create("half", 640, &merge), nullptr);
    EXPECT_EQ(errno, ENOSPC);
    EXPECT_EQ(g_object_caches.in_use(), before);
    EXPECT_EQ(slab_cache_find("half"), nullptr);
    slab_cache* whole = make_cache("half", 64);
    EXPECT_EQ(slab_cache_create("too-many", 64, nullptr), nullptr) << "one record, two caches";
    EXPECT_EQ(slab_cache_destroy(whole), 0);
  });
}

// The 7th version's review: create's way back is release, not shutdown.
TEST_F(CacheLife, S11_AFailedCreateReleasesAndShutsNothingDown) {
  if (testing::kThreadSanitizer)
    GTEST_SKIP() << "one thread alone, and thousands of caches";
  with_one_id_left([] {
    const slab_cache_args merge = args_with(SLAB_MERGE);
    static std::vector<TestPoint> points;
    points.clear();
    g_test_point.store([](TestPoint point, unsigned) { points.push_back(point); });
    EXPECT_EQ(slab_cache_create("half", 640, &merge), nullptr);
    g_test_point.store(nullptr);
    EXPECT_TRUE(points.empty());
  });
}

TEST_F(CacheLife, S13_AnAliasIsOneReference) {
  const slab_cache_args merge = args_with(SLAB_MERGE);
  std::array<slab_cache*, 3> aliases{make_cache("a", 64, merge), make_cache("b", 60, merge),
                                     make_cache("c", 64, merge)};
  void* object = slab_cache_alloc(aliases[0]);
  slab_cache* shared = slab_cache_of(object);
  EXPECT_EQ(shown(shared, "aliases"), "2\n");
  EXPECT_EQ(slab_cache_destroy(aliases[0]), 0) << "others hold what it shares";
  EXPECT_EQ(slab_cache_destroy(aliases[1]), 0);
  EXPECT_TRUE(is_gone(aliases[0]) && is_gone(aliases[1]));
  EXPECT_EQ(shown(shared, "aliases"), "0\n");
  void* more = slab_cache_alloc(aliases[2]);
  EXPECT_EQ(slab_cache_of(more), shared);
  slab_cache_free(aliases[2], more);
  EXPECT_EQ(slab_cache_destroy(aliases[2]), -EBUSY) << "the last one judges";
  slab_cache_free(aliases[2], object);
  EXPECT_EQ(slab_cache_destroy(aliases[2]), 0);
  EXPECT_TRUE(is_gone(shared));
}

// ---- what came later ------------------------------------------------------------------------

// 92ee383f6daa: an allocation that is under way keeps the cache until it is through.
TEST_F(CacheLife, L92ee_AnAllocationUnderWayIsWaitedForByTheRelease) {
  slab_cache* cache = make_cache("allocating", 64);
  Signal held;
  Signal destroyed;
  const AtPoint at(TestPoint::kAllocateHeld, [&] {
    held.set();
    destroyed.wait();
  });
  SlabThread allocator([&] {
    EXPECT_EQ(slab_cache_alloc(cache), nullptr);
    EXPECT_EQ(errno, ENODEV);
  });
  held.wait();
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(g_object_caches.leaving(), 1U) << "released under a thread that is inside";
  destroyed.set();
  allocator.join();
  EXPECT_TRUE(is_gone(cache));
}

// f6ba488073fe: each get has its put on every branch. The fixture counts.
TEST_F(CacheLife, Lf6ba_EveryBranchGivesItsReferenceBack) {
  slab_cache* cache = make_cache("counted", 64);
  EXPECT_EQ(slab_cache_for_each([](slab_cache*, void*) { return 7; }, nullptr), 7);
  EXPECT_EQ(slab_cache_find("nobody"), nullptr);
  slab_cache_put(slab_cache_find("counted"));
  slab_cache_put(nullptr);
  char text[8];
  EXPECT_EQ(slab_cache_show(cache, "nothing", text, sizeof(text)), -ENOENT);
  EXPECT_EQ(slab_cache_show(cache, "alloc_calls", text, sizeof(text)), -ENOSYS);
  EXPECT_EQ(slab_cache_store(cache, "objects", "1"), -EACCES);
  EXPECT_EQ(slab_cache_store(cache, "shrink", "2"), -EINVAL);
  EXPECT_EQ(slab_cache_store(cache, "min_partial", "many"), -EINVAL);
  EXPECT_EQ(g_object_caches.held(), held_);
  void* kept = slab_cache_alloc(cache);
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  EXPECT_EQ(g_object_caches.held(), held_);
  slab_cache_free(cache, kept);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// d50d82faa0c9: a name is free when destroy returns, whoever still holds the record.
TEST_F(CacheLife, Ld50d_ANameIsFreeAtOnceWhoeverHoldsTheCache) {
  slab_cache* cache = make_cache("again", 64);
  slab_cache* held = slab_cache_find("again");
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  slab_cache* next = make_cache("again", 64);
  EXPECT_NE(next, cache);
  EXPECT_STREQ(slab_cache_name(held), "again") << "the old one is still read";
  EXPECT_EQ(slab_cache_destroy(next), 0);
  slab_cache_put(held);
}

// d38a2b7a9c93: what is shared is dying only when its last alias is.
TEST_F(CacheLife, Ld38a_AnAliasThatGoesDoesNotMarkWhatIsShared) {
  slab_cache* stays = make_cache("stays", 64, args_with(SLAB_MERGE));
  slab_cache* goes = make_cache("goes", 64, args_with(SLAB_MERGE));
  void* object = slab_cache_alloc(stays);
  const AtPoint at(TestPoint::kDestroyDying, [&] {
    void* meanwhile = slab_cache_alloc(stays);
    EXPECT_NE(meanwhile, nullptr);
    slab_cache_free(stays, meanwhile);
    slab_cache* third = make_cache("third", 64, args_with(SLAB_MERGE));
    EXPECT_EQ(shown(third, "objects"), "1 N0=1\n") << "a dying one is no partner";
    EXPECT_EQ(slab_cache_destroy_detach(third), 0);
  });
  EXPECT_EQ(slab_cache_destroy(goes), 0);
  EXPECT_TRUE(AtPoint::seen());
  slab_cache_free(stays, object);
  EXPECT_EQ(slab_cache_destroy(stays), 0);
}

// The same commit's successor: names of what is shared differ while an old one is to be seen.
TEST_F(CacheLife, Ld38a_SharedNamesDifferWhileAnOldOneIsVisible) {
  slab_cache* first = make_cache("first", 64, args_with(SLAB_MERGE));
  void* object = slab_cache_alloc(first);
  slab_cache* zombie = slab_cache_of(object);
  EXPECT_EQ(slab_cache_destroy_detach(first), 1);
  slab_cache* second = make_cache("second", 64, args_with(SLAB_MERGE));
  void* other = slab_cache_alloc(second);
  EXPECT_NE(slab_cache_of(other), zombie);
  EXPECT_STRNE(slab_cache_name(slab_cache_of(other)), slab_cache_name(zombie));
  slab_cache_free(second, other);
  EXPECT_EQ(slab_cache_destroy(second), 0);
  slab_cache_free(first, object);
  EXPECT_TRUE(is_gone(zombie) && is_gone(first));
}

// d71608a877 (6.0): after the last unlock nothing is read of what may be another's by then.
TEST_F(CacheLife, Ld716_AReleasedRecordMayBeAnotherCacheBeforeDestroyReturns) {
  slab_cache* cache = make_cache("old", 64);
  slab_cache* reused = nullptr;
  std::vector<slab_cache*> others;
  const AtPoint at(TestPoint::kReleased, [&] {
    while (reused == nullptr) {
      slab_cache* next = make_cache(("new-" + std::to_string(others.size())).c_str(), 64);
      others.push_back(next);
      if (next == cache)
        reused = next;
    }
  });
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  ASSERT_NE(reused, nullptr);
  void* object = slab_cache_alloc(reused);
  EXPECT_NE(object, nullptr);
  slab_cache_free(reused, object);
  for (slab_cache* other : others)
    EXPECT_EQ(slab_cache_destroy(other), 0);
}

// 46a9ea668190, CVE-2023-52562: a refused destroy frees no descriptor and leaves none on a list.
TEST_F(CacheLife, L46a9_ARefusedDestroyKeepsItsDescriptor) {
  slab_cache* cache = make_cache("kept", 64);
  void* object = slab_cache_alloc(cache);
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  std::vector<slab_cache*> others;
  for (int i = 0; i < 400; ++i) {
    others.push_back(make_cache(("other-" + std::to_string(i)).c_str(), 64));
    EXPECT_NE(others.back(), cache);
  }
  EXPECT_EQ(shown(cache, "objects"), "1 N0=1\n");
  for (slab_cache* other : others)
    EXPECT_EQ(slab_cache_destroy(other), 0);
  slab_cache_free(cache, object);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// 4ec10268ed98's fix: no kind of cache leaves a descriptor. (Each build runs this.)
TEST_F(CacheLife, L4ec1_NoKindOfCacheLeavesADescriptor) {
  const auto nothing = [](void*) {};
  const std::array kinds{args_with(0),
                         args_with(SLAB_HWCACHE_ALIGN),
                         args_with(SLAB_STORE_USER),
                         args_with(SLAB_MERGE),
                         args_with(0, nothing),
                         args_with(0, nullptr, nothing),
                         args_with(SLAB_STORE_USER, nothing, nothing),
                         args_with(SLAB_TYPESAFE_BY_RCU, nullptr, nullptr, FakeRcu::flavor()),
                         args_with(SLAB_TYPESAFE_BY_RCU | SLAB_STORE_USER | SLAB_MERGE, nothing,
                                   nothing, FakeRcu::flavor())};
  for (const slab_cache_args& kind : kinds) {
    for (int round = 0; round < 40; ++round) {
      slab_cache* cache = make_cache("any", 64, kind);
      void* object = slab_cache_alloc(cache);
      if (round % 2 == 0) {
        EXPECT_EQ(slab_cache_destroy_detach(cache), 1);
      }
      slab_cache_free(cache, object);
      if (round % 2 != 0) {
        EXPECT_EQ(slab_cache_destroy(cache), 0);
      }
    }
    g_object_caches.settle();
    EXPECT_EQ(g_object_caches.in_use(), in_use_);
  }
}

// The remark on 4ec10268ed98: what remains is counted everywhere, not up to the first find.
TEST_F(CacheLife, L4ec1_WhatRemainsIsCountedOnAllThreads) {
  static uint64_t reported;
  reported = 0;
  g_hooks.destroy_refused = [](const RefusedDestroy& refused) { reported = refused.objects; };
  slab_cache* cache = make_cache("everywhere", 64);
  std::array<std::array<void*, 5>, 3> objects{};
  std::barrier step(4);
  std::vector<SlabThread> threads;
  for (auto& mine : objects) {
    threads.emplace_back([&] {
      EXPECT_EQ(slab_cache_alloc_bulk(cache, mine.size(), mine.data()), mine.size());
      step.arrive_and_wait();
      step.arrive_and_wait();
      slab_cache_free_bulk(cache, mine.size(), mine.data());
    });
  }
  step.arrive_and_wait();
  EXPECT_EQ(slab_cache_destroy(cache), -EBUSY);
  EXPECT_EQ(reported, 15U);
  step.arrive_and_wait();
  threads.clear();
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// 6c6c47b063b5: what the program gave to call_rcu() is freed before emptiness is judged.
TEST_F(CacheLife, L6c6c_DeferredFreesComeBeforeTheJudgement) {
  slab_cache* cache = make_cache(
      "deferred", 64, args_with(SLAB_TYPESAFE_BY_RCU, nullptr, nullptr, FakeRcu::flavor()));
  void* object = slab_cache_alloc(cache);
  FakeRcu::on_barrier = [&] { slab_cache_free(cache, object); };
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(FakeRcu::barriers, 1U);
}

// Chris Wilson's fix of 2016: what is retired may allocate, from any cache, and create caches.
TEST_F(CacheLife, LWilson_ADestructorMayDoEverythingItsCacheIsNotNeededFor) {
  static slab_cache* other = nullptr;
  other = make_cache("other", 64);
  slab_cache* cache = make_cache("retiring", 64, args_with(0, nullptr, [](void*) {
                                   deallocate(allocate(100));
                                   slab_cache_free(other, slab_cache_alloc(other));
                                   EXPECT_EQ(slab_cache_destroy(make_cache("inner", 64)), 0);
                                   EXPECT_EQ(listed_names().size(), 1U);
                                 }));
  slab_cache_free(cache, slab_cache_alloc(cache));
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(slab_cache_destroy(other), 0);
}

}  // namespace
}  // namespace slabscope
