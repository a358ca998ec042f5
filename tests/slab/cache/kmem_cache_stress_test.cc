// SPDX-License-Identifier: MIT
//
// KmemCache under threads that take from their own slabs and put into each other's.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <vector>

#include "slab/cache/kmem_cache.h"
#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

struct Geometry {
  size_t object_size;
  size_t slab_bytes;
};

// Where threads leave objects for each other.
class Mailbox {
 public:
  void give(std::vector<FreeObject*>* objects) {
    std::lock_guard lock(mutex_);
    objects_.insert(objects_.end(), objects->begin(), objects->end());
    objects->clear();
  }
  std::vector<FreeObject*> take(size_t most) {
    std::lock_guard lock(mutex_);
    std::vector<FreeObject*> taken;
    while (!objects_.empty() && taken.size() < most) {
      taken.push_back(objects_.back());
      objects_.pop_back();
    }
    return taken;
  }

 private:
  std::mutex mutex_;
  std::vector<FreeObject*> objects_;
};

class Stress {
 public:
  explicit Stress(Geometry geometry) {
    cache_.init(1, geometry.object_size, geometry.slab_bytes, Tracked::kNo, &stats_);
  }

  void run(unsigned threads, int rounds) {
    testing::in_threads(threads, [this, rounds](unsigned thread) { work(thread, rounds); });
    put_back(mailbox_.take(SIZE_MAX));
    work(threads, 1);  // a shrink may have come last: now there is a slab that was emptied
    put_back(mailbox_.take(SIZE_MAX));
    cache_.validate();
    EXPECT_EQ(errors_.load(), 0);
    EXPECT_EQ(stats_.objects_out, 0U);
    EXPECT_EQ(stats_.slabs, 1U);
    EXPECT_EQ(stats_.slabs_partial, 1U);
    EXPECT_EQ(stats_.slabs_empty, 1U);
    EXPECT_EQ(stats_.slabs_grown - stats_.slabs_released, 1U);
    EXPECT_EQ(cache_.shrink(), 1U);
    EXPECT_EQ(stats_.slabs + stats_.slabs_partial + stats_.slabs_empty, 0U);
    cache_.validate();
    g_page_heap.validate();
  }

 private:
  // An object in somebody's hands holds its own address, spelt backwards.
  static void mark(FreeObject* object) {
    reinterpret_cast<uintptr_t*>(object)[1] = ~reinterpret_cast<uintptr_t>(object);
  }
  void unmark(FreeObject* object) {
    uintptr_t& word = reinterpret_cast<uintptr_t*>(object)[1];
    if (word != ~reinterpret_cast<uintptr_t>(object))
      ++errors_;
    word = 0;
  }

  void collect(const Chain& chain, std::vector<FreeObject*>* objects) {
    uint32_t count = 0;
    for (FreeObject* object = chain.head; object != nullptr;) {
      FreeObject* next = object->next;
      mark(object);
      objects->push_back(object);
      object = next;
      ++count;
    }
    if (count != chain.count)
      ++errors_;
  }

  void put_back(const std::vector<FreeObject*>& objects) {
    std::map<Slab*, Chain> chains;
    for (FreeObject* object : objects) {
      unmark(object);
      Slab* slab = g_page_map.find(object)->slab;
      if (slab->cache.load() != &cache_)
        ++errors_;
      chains[slab].push(object);
    }
    for (const auto& [slab, chain] : chains)
      cache_.put(slab, chain);
  }

  void work(unsigned thread, int rounds) {
    testing::Random random(thread);
    Slab* current = nullptr;
    std::vector<FreeObject*> mine;
    for (int round = 0; round < rounds; ++round) {
      if (current == nullptr)
        current = cache_.acquire();
      Chain chain = cache_.take_returned(current, 1 + static_cast<uint32_t>(random.below(40)));
      if (chain.count == 0)
        chain = cache_.carve(current, 1 + static_cast<uint32_t>(random.below(20)));
      if (chain.count == 0 || random.one_in(16)) {
        collect(chain, &mine);
        cache_.leave(current);
        current = nullptr;
      } else {
        collect(chain, &mine);
      }
      if (random.one_in(4))
        mailbox_.give(&mine);
      if (random.one_in(2))
        put_back(mailbox_.take(random.below(200)));
      if (random.one_in(64))
        cache_.shrink();
    }
    mailbox_.give(&mine);
    if (current != nullptr)
      cache_.leave(current);
  }

  CacheStats stats_{};
  KmemCache cache_;
  Mailbox mailbox_;
  std::atomic<int> errors_{0};
};

constexpr int kRounds = testing::kThreadSanitizer ? 1500 : 6000;

TEST(KmemCacheStress, SmallObjectsInFourThreads) {
  Stress({16, 64 << 10}).run(4, kRounds);
}

// Slabs of eight objects change state all the time.
TEST(KmemCacheStress, SlabsOfFewObjectsInFourThreads) {
  Stress({2048, 16 << 10}).run(4, kRounds);
}

TEST(KmemCacheStress, SlabsOfOneObjectInThreeThreads) {
  Stress({16 << 10, 16 << 10}).run(3, kRounds);
}

}  // namespace
}  // namespace slabscope
