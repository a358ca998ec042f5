// SPDX-License-Identifier: MIT
//
// Typesafe caches with the readers of a real liburcu (bp flavour): what a reader looks at stays an
// object of its cache until the reader has left.

#include <gtest/gtest.h>
#include <urcu-bp.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include "tests/slab/cache/life_fixture.h"

namespace slabscope {
namespace {

using testing::args_with;
using testing::FakeRcu;
using testing::is_gone;
using testing::make_cache;
using testing::Signal;
using testing::SlabThread;
using testing::stats_of;

static_assert(offsetof(RcuFlavor, update_synchronize_rcu) ==
              offsetof(rcu_flavor_struct, update_synchronize_rcu));
static_assert(offsetof(RcuFlavor, barrier) == offsetof(rcu_flavor_struct, barrier));
static_assert(offsetof(RcuFlavor, read_ongoing) == offsetof(rcu_flavor_struct, read_ongoing));

class CacheTypesafe : public testing::LifeTest {
 protected:
  static slab_cache* make(const rcu_flavor_struct* flavor, void (*ctor)(void*) = nullptr,
                          void (*dtor)(void*) = nullptr) {
    return make_cache("typesafe", 64, args_with(SLAB_TYPESAFE_BY_RCU, ctor, dtor, flavor));
  }
};

struct Node {
  std::atomic<uint64_t> key;
  std::atomic<uint64_t> twice;
};

// The flavour, and when it begins to wait.
Signal* g_waiting = nullptr;
rcu_flavor_struct announcing_flavor() {
  rcu_flavor_struct flavor = rcu_flavor;
  flavor.update_synchronize_rcu = [] {
    if (g_waiting != nullptr)
      g_waiting->set();
    rcu_flavor.update_synchronize_rcu();
  };
  return flavor;
}

TEST_F(CacheTypesafe, NeedsAFlavourThatCanWait) {
  const slab_cache_args none = args_with(SLAB_TYPESAFE_BY_RCU);
  EXPECT_EQ(slab_cache_create("none", 64, &none), nullptr);
  EXPECT_EQ(errno, EINVAL);
  rcu_flavor_struct lame = rcu_flavor;
  lame.update_synchronize_rcu = nullptr;
  const slab_cache_args waits_not = args_with(SLAB_TYPESAFE_BY_RCU, nullptr, nullptr, &lame);
  EXPECT_EQ(slab_cache_create("waits-not", 64, &waits_not), nullptr);
  EXPECT_EQ(errno, EINVAL);
  slab_cache* cache = make(&rcu_flavor);
  EXPECT_EQ(slab_cache_zalloc(cache), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheTypesafe, AnObjectIsReusedAtOnceAndFreeingWritesNothingIntoIt) {
  static int constructed;
  constructed = 0;
  const auto construct = [](void* object) {
    ++constructed;
    static_cast<Node*>(object)->key = 1;
  };
  for (void (*ctor)(void*) :
       {static_cast<void (*)(void*)>(construct), static_cast<void (*)(void*)>(nullptr)}) {
    slab_cache* cache = make(&rcu_flavor, ctor);
    auto* node = static_cast<Node*>(slab_cache_alloc(cache));
    node->key = 7;
    node->twice = 14;
    slab_cache_free(cache, node);
    EXPECT_EQ(node->key, 7U) << "a reader may be looking";
    EXPECT_EQ(node->twice, 14U);
    EXPECT_EQ(slab_cache_alloc(cache), node);
    EXPECT_EQ(node->key, 7U);
    slab_cache_free(cache, node);
    EXPECT_EQ(slab_cache_destroy(cache), 0);
  }
  EXPECT_EQ(constructed, 1);
}

TEST_F(CacheTypesafe, DestroyWaitsForAReaderAndTheMemoryStays) {
  const rcu_flavor_struct flavor = announcing_flavor();
  static std::atomic<int> destructed;
  destructed = 0;
  slab_cache* cache = make(&flavor, nullptr, [](void*) { ++destructed; });
  auto* node = static_cast<Node*>(slab_cache_alloc(cache));
  node->key = 21;
  Signal waiting;
  g_waiting = &waiting;
  Signal looking;
  std::atomic<bool> left{false};
  SlabThread reader([&] {
    rcu_read_lock();
    looking.set();
    waiting.wait();
    EXPECT_EQ(node->key, 21U);
    EXPECT_EQ(slab_cache_of(node), cache) << "the memory is somebody else's";
    EXPECT_EQ(destructed, 0);
    left = true;
    rcu_read_unlock();
  });
  looking.wait();
  slab_cache_free(cache, node);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_TRUE(left) << "destroy did not wait";
  EXPECT_EQ(destructed, 1);
  EXPECT_TRUE(is_gone(cache));
  g_waiting = nullptr;
}

TEST_F(CacheTypesafe, ShrinkGivesBackWhatIsIdleForAGracePeriod) {
  slab_cache* cache = make(FakeRcu::flavor());
  std::vector<void*> objects(4000);
  EXPECT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  const uint64_t slabs = stats_of(cache).slabs;
  slab_cache_free_bulk(cache, objects.size(), objects.data());
  EXPECT_EQ(stats_of(cache).slabs, slabs) << "emptied slabs went by themselves";
  void* meanwhile = nullptr;
  FakeRcu::on_wait = [&] {
    EXPECT_EQ(stats_of(cache).slabs, slabs);
    // One is used again, and emptied again: its time starts anew.
    meanwhile = slab_cache_alloc(cache);
    slab_cache_free(cache, meanwhile);
    g_threads.drain(reinterpret_cast<ObjectCache*>(cache)->id());
  };
  EXPECT_EQ(slab_cache_shrink(cache), static_cast<int>(slabs - 1));
  EXPECT_EQ(slab_cache_of(meanwhile), cache);
  FakeRcu::on_wait = nullptr;
  EXPECT_EQ(slab_cache_shrink(cache), 1);
  EXPECT_EQ(FakeRcu::waits, 2U);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheTypesafe, AFreeNeverWaitsAndAZombieGoesWithTheNextCallThatMay) {
  slab_cache* cache = make(FakeRcu::flavor());
  void* object = slab_cache_alloc(cache);
  EXPECT_EQ(slab_cache_destroy_detach(cache), 1);
  EXPECT_EQ(FakeRcu::waits, 0U);
  slab_cache_free(cache, object);  // perhaps by a reader, in its section
  EXPECT_EQ(FakeRcu::waits, 0U);
  EXPECT_EQ(slab_cache_of(object), cache);
  slab_cache* next = make_cache("next", 64);
  EXPECT_EQ(FakeRcu::waits, 1U);
  EXPECT_EQ(g_object_caches.leaving(), 0U);
  EXPECT_EQ(slab_cache_of(object), nullptr);
  EXPECT_EQ(slab_cache_destroy(next), 0);
}

// A thread's list is brought back after the grace period: what was free when it began is free.
TEST_F(CacheTypesafe, OtherThreadsListsComeBackWithoutAnotherWait) {
  slab_cache* cache = make(FakeRcu::flavor());
  Signal listed;
  Signal destroyed;
  SlabThread other([&] {
    slab_cache_free(cache, slab_cache_alloc(cache));
    listed.set();
    destroyed.wait();
  });
  listed.wait();
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_FALSE(is_gone(cache));
  destroyed.set();
  other.join();
  EXPECT_TRUE(is_gone(cache));
  EXPECT_EQ(FakeRcu::waits, 1U);
}

// call_rcu() of the program's own: what it has not done yet is done before the cache is judged.
TEST_F(CacheTypesafe, FreesThatTheProgramDeferredAreNotLeftOver) {
  if (testing::kThreadSanitizer)
    GTEST_SKIP() << "ThreadSanitizer does not see how liburcu's thread is handed its work";
  static slab_cache* cache = nullptr;
  cache = make(&rcu_flavor);
  for (int i = 0; i < 50; ++i) {
    call_rcu(static_cast<rcu_head*>(slab_cache_alloc(cache)),
             [](rcu_head* head) { slab_cache_free(cache, head); });
  }
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  // liburcu's thread has them on its list: it lets go at its next slow path.
  rcu_head again;
  call_rcu(&again, [](rcu_head*) { testing::pass_the_slow_path(); });
  rcu_barrier();
  EXPECT_TRUE(is_gone(cache));
}

// A list of one, replaced all the time: readers check what they find, as typesafe readers must.
TEST_F(CacheTypesafe, ReadersSeeObjectsOfTheTypeWhateverIsFreed) {
  slab_cache* cache = make(&rcu_flavor, [](void* object) {
    static_cast<Node*>(object)->key = 0;
    static_cast<Node*>(object)->twice = 0;
  });
  std::atomic<Node*> head{nullptr};
  std::atomic<bool> done{false};
  std::atomic<unsigned> looking{0};
  const auto read = [&] {
    bool found = false;
    while (!done) {
      rcu_read_lock();
      Node* node = head.load(std::memory_order_acquire);
      if (node != nullptr) {
        // Keys are even: memory of another type would hold anything.
        EXPECT_EQ(node->key.load() % 2, 0U);
        EXPECT_EQ(node->twice.load() % 4, 0U);
        looking += found ? 0 : 1;
        found = true;
      }
      rcu_read_unlock();
    }
  };
  const int rounds = testing::kThreadSanitizer ? 2000 : 20000;
  {
    SlabThread one(read);
    SlabThread two(read);
    for (int round = 0; round < rounds || looking < 2; ++round) {
      auto* node = static_cast<Node*>(slab_cache_alloc(cache));
      node->key = static_cast<uint64_t>(round) * 2;
      node->twice = static_cast<uint64_t>(round) * 4;
      Node* old = head.exchange(node);
      if (old != nullptr)
        slab_cache_free(cache, old);
      if (round % 500 == 0) {
        EXPECT_GE(slab_cache_shrink(cache), 0);
      }
    }
    done = true;
  }
  slab_cache_free(cache, head.load());
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

}  // namespace
}  // namespace slabscope
