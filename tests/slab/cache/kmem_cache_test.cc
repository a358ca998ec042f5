// SPDX-License-Identifier: MIT

#include "slab/cache/kmem_cache.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "slab/cache/size_class.h"
#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

constexpr unsigned kId = 12;
constexpr size_t kSize = 192;
constexpr size_t kSlabBytes = 64 << 10;
constexpr uint32_t kCapacity = kSlabBytes / kSize;

// A cache nobody else knows. At the end of each test all its objects are back.
class KmemCacheTest : public ::testing::Test {
 protected:
  void SetUp() override { cache_.init(kId, kSize, kSlabBytes, Tracked::kNo, &stats_); }
  void TearDown() override {
    cache_.validate();
    EXPECT_EQ(stats_.objects_out, 0U);
    cache_.shrink();
    EXPECT_EQ(stats_.slabs, 0U);
    EXPECT_EQ(stats_.slabs_partial, 0U);
    EXPECT_EQ(stats_.slabs_empty, 0U);
    EXPECT_EQ(stats_.slabs_grown, stats_.slabs_released);
    cache_.validate();
    g_page_heap.validate();
  }

  // A slab all of whose objects are out, no longer CURRENT.
  Slab* full_slab(std::vector<FreeObject*>* objects) {
    Slab* slab = cache_.acquire();
    EXPECT_NE(slab, nullptr);
    take(cache_.take_returned(slab, UINT32_MAX), objects);
    take(cache_.carve(slab, kCapacity), objects);
    cache_.leave(slab);
    return slab;
  }
  static void take(const Chain& chain, std::vector<FreeObject*>* objects) {
    uint32_t count = 0;
    for (FreeObject* object = chain.head; object != nullptr; object = object->next) {
      objects->push_back(object);
      ++count;
    }
    EXPECT_EQ(count, chain.count);
  }
  void put(Slab* slab, FreeObject* object) { cache_.put(slab, Chain{object, object, 1}); }
  void put_all(Slab* slab, const std::vector<FreeObject*>& objects) {
    for (FreeObject* object : objects)
      put(slab, object);
  }

  CacheStats stats_{};
  KmemCache cache_;
};

TEST_F(KmemCacheTest, AnAcquiredSlabIsCurrentAndCountedFromTheStart) {
  const uint64_t mapped = stat_get(g_heap_stats->mapped_slab_bytes);
  Slab* slab = cache_.acquire();
  ASSERT_NE(slab, nullptr);
  EXPECT_EQ(slab->load().state, SlabState::kCurrent);
  EXPECT_EQ(slab->load().carved, 0U);
  EXPECT_EQ(stats_.slabs, 1U);
  EXPECT_EQ(stats_.slabs_grown, 1U);
  EXPECT_EQ(stats_.slabs_partial, 0U);
  EXPECT_EQ(stat_get(g_heap_stats->mapped_slab_bytes) - mapped, kSlabBytes);
  cache_.leave(slab);
}

TEST_F(KmemCacheTest, CarvedObjectsAreLinkedInAddressOrderAndNeverTwice) {
  Slab* slab = cache_.acquire();
  std::vector<FreeObject*> objects;
  take(cache_.carve(slab, 3), &objects);
  take(cache_.carve(slab, 1), &objects);
  ASSERT_EQ(objects.size(), 4U);
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(reinterpret_cast<char*>(objects[i]), slab->base + i * kSize);
    EXPECT_EQ(cache_.index_of(slab, objects[i]), i);
  }
  EXPECT_EQ(stats_.objects_out, 4U);
  EXPECT_EQ(stats_.peak_active_objects, 4U);
  put_all(slab, objects);
  EXPECT_EQ(stats_.peak_active_objects, 4U);
  cache_.leave(slab);
}

TEST_F(KmemCacheTest, CarvingEndsAtTheCapacity) {
  Slab* slab = cache_.acquire();
  std::vector<FreeObject*> objects;
  take(cache_.carve(slab, kCapacity - 1), &objects);
  EXPECT_EQ(cache_.carve(slab, 100).count, 1U);
  EXPECT_EQ(cache_.carve(slab, 1).count, 0U);
  EXPECT_LE(reinterpret_cast<char*>(objects.back()) + 2 * kSize, slab->base + kSlabBytes);
  put_all(slab, objects);
  put(slab, reinterpret_cast<FreeObject*>(slab->base + (kCapacity - 1) * kSize));
  cache_.leave(slab);
}

TEST_F(KmemCacheTest, ReturnedObjectsAreTakenAsOneChain) {
  Slab* slab = cache_.acquire();
  std::vector<FreeObject*> objects;
  take(cache_.carve(slab, 6), &objects);
  put(slab, objects[4]);
  Chain two;
  two.push(objects[1]);
  two.push(objects[2]);
  cache_.put(slab, two);
  EXPECT_EQ(stats_.objects_out, 3U);
  std::vector<FreeObject*> back;
  take(cache_.take_returned(slab, UINT32_MAX), &back);
  EXPECT_EQ(std::set<FreeObject*>(back.begin(), back.end()),
            (std::set<FreeObject*>{objects[1], objects[2], objects[4]}));
  EXPECT_EQ(stats_.objects_out, 6U);
  EXPECT_EQ(cache_.take_returned(slab, UINT32_MAX).count, 0U);
  put_all(slab, objects);
  cache_.leave(slab);
}

TEST_F(KmemCacheTest, NoMoreThanWantedIsTakenAndTheRestStays) {
  Slab* slab = cache_.acquire();
  std::vector<FreeObject*> objects;
  take(cache_.carve(slab, 20), &objects);
  put_all(slab, objects);
  std::vector<FreeObject*> back;
  take(cache_.take_returned(slab, 1), &back);
  EXPECT_EQ(back.back(), objects.back());
  take(cache_.take_returned(slab, 7), &back);
  EXPECT_EQ(back.size(), 8U);
  EXPECT_EQ(stats_.objects_out, 8U);
  EXPECT_EQ(slab->load().count, 12U);
  put(slab, back.back());  // joins the rest
  back.pop_back();
  take(cache_.take_returned(slab, 100), &back);
  EXPECT_EQ(std::set<FreeObject*>(back.begin(), back.end()).size(), 20U);
  EXPECT_EQ(slab->load().head, 0U);
  put_all(slab, back);
  cache_.leave(slab);
}

TEST_F(KmemCacheTest, AnExhaustedSlabIsFullUntilItsFirstObjectComesBack) {
  std::vector<FreeObject*> objects;
  Slab* slab = full_slab(&objects);
  EXPECT_EQ(slab->load().state, SlabState::kFull);
  EXPECT_FALSE(slab->listed);
  EXPECT_EQ(stats_.slabs_partial, 0U);
  put(slab, objects.back());
  objects.pop_back();
  EXPECT_EQ(slab->load().state, SlabState::kPartial);
  EXPECT_TRUE(slab->listed);
  EXPECT_EQ(stats_.slabs_partial, 1U);
  EXPECT_EQ(stats_.slabs_empty, 0U);
  cache_.validate();
  EXPECT_EQ(cache_.acquire(), slab);
  EXPECT_EQ(slab->load().state, SlabState::kCurrent);
  EXPECT_EQ(stats_.slabs_partial, 0U);
  cache_.leave(slab);
  put_all(slab, objects);
}

TEST_F(KmemCacheTest, ASlabLeftWithRoomIsPartialAndTakenBeforeANewOne) {
  Slab* slab = cache_.acquire();
  std::vector<FreeObject*> objects;
  take(cache_.carve(slab, 5), &objects);
  cache_.leave(slab);
  EXPECT_EQ(slab->load().state, SlabState::kPartial);
  EXPECT_EQ(cache_.acquire(), slab);
  EXPECT_EQ(stats_.slabs, 1U);
  EXPECT_EQ(cache_.carve(slab, 1).head, reinterpret_cast<FreeObject*>(slab->base + 5 * kSize));
  put(slab, reinterpret_cast<FreeObject*>(slab->base + 5 * kSize));
  put_all(slab, objects);
  cache_.leave(slab);
}

TEST_F(KmemCacheTest, EmptySlabsGoBackButOne) {
  constexpr int kSlabs = 5;
  std::vector<FreeObject*> objects[kSlabs];
  Slab* slabs[kSlabs];
  for (int i = 0; i < kSlabs; ++i)
    slabs[i] = full_slab(&objects[i]);
  const uint64_t mapped = stat_get(g_heap_stats->mapped_slab_bytes);
  for (int i = 0; i < kSlabs; ++i)
    put_all(slabs[i], objects[i]);
  EXPECT_EQ(stats_.slabs, 1U);
  EXPECT_EQ(stats_.slabs_partial, 1U);
  EXPECT_EQ(stats_.slabs_empty, 1U);
  EXPECT_EQ(stats_.slabs_released, kSlabs - 1U);
  EXPECT_EQ(mapped - stat_get(g_heap_stats->mapped_slab_bytes), (kSlabs - 1) * kSlabBytes);
}

TEST_F(KmemCacheTest, NoEmptySlabStaysWhereNoneIsWanted) {
  cache_.keep_empty(false);
  std::vector<FreeObject*> first;
  Slab* slab = full_slab(&first);
  put_all(slab, first);
  EXPECT_EQ(stats_.slabs, 0U);
  EXPECT_EQ(stats_.slabs_empty, 0U);
  cache_.leave(cache_.acquire());
  EXPECT_EQ(stats_.slabs, 0U);
}

TEST_F(KmemCacheTest, OfUsedSlabsTheFullestIsAcquiredSoThatOthersMayEmpty) {
  constexpr size_t kBack[] = {5, 2, 9};  // objects that come back, by slab
  std::vector<FreeObject*> objects[3];
  Slab* slabs[3];
  for (unsigned i = 0; i < 3; ++i)
    slabs[i] = full_slab(&objects[i]);
  for (unsigned i = 0; i < 3; ++i) {
    for (size_t n = 0; n < kBack[i]; ++n) {
      put(slabs[i], objects[i].back());
      objects[i].pop_back();
    }
  }
  EXPECT_EQ(cache_.acquire_used(), slabs[1]);
  EXPECT_EQ(cache_.acquire(), slabs[0]);
  EXPECT_EQ(cache_.acquire(), slabs[2]);
  for (unsigned i = 0; i < 3; ++i) {
    cache_.leave(slabs[i]);
    put_all(slabs[i], objects[i]);
  }
}

TEST_F(KmemCacheTest, AnEmptySlabIsTheLastToBeAcquired) {
  std::vector<FreeObject*> first;
  std::vector<FreeObject*> second;
  Slab* empty = full_slab(&first);
  Slab* partial = full_slab(&second);
  put_all(empty, first);
  ASSERT_EQ(stats_.slabs_empty, 1U);
  put(partial, second.back());
  second.pop_back();
  EXPECT_EQ(cache_.acquire(), partial);
  EXPECT_EQ(cache_.acquire(), empty);
  EXPECT_EQ(stats_.slabs_empty, 0U);
  cache_.leave(empty);
  cache_.leave(partial);
  put_all(partial, second);
}

TEST_F(KmemCacheTest, ACurrentSlabStaysItsOwnersWhenOthersEmptyIt) {
  Slab* slab = cache_.acquire();
  std::vector<FreeObject*> objects;
  take(cache_.carve(slab, kCapacity), &objects);
  testing::in_thread([&] { put_all(slab, objects); });
  EXPECT_EQ(slab->load().state, SlabState::kCurrent);
  EXPECT_FALSE(slab->listed);
  EXPECT_EQ(cache_.take_returned(slab, UINT32_MAX).count, kCapacity);
  put_all(slab, objects);
  cache_.leave(slab);
}

TEST_F(KmemCacheTest, OnlyObjectStartsHaveAnIndex) {
  Slab* slab = cache_.acquire();
  for (uint32_t offset = 0; offset < kSlabBytes; ++offset) {
    const uint32_t index = cache_.index_of(slab, slab->base + offset);
    const bool starts = offset % kSize == 0 && offset / kSize < kCapacity;
    ASSERT_EQ(index, starts ? offset / kSize : KmemCache::kNotAnObject) << offset;
  }
  cache_.leave(slab);
}

TEST_F(KmemCacheTest, TheMapKnowsASlabUntilItIsReleased) {
  Slab* slab = cache_.acquire();
  const size_t first = g_page_map.index_of(slab->base);
  for (size_t i = first; i < first + kSlabBytes / Config::kChunk; ++i) {
    EXPECT_EQ(g_page_map.id_at(i), kId);
    EXPECT_EQ(g_page_map.chunk(i)->kind.load(), ChunkKind::kSlab);
    EXPECT_EQ(g_page_map.chunk(i)->slab, slab);
  }
  cache_.leave(slab);
  EXPECT_EQ(cache_.shrink(), 1U);
  for (size_t i = first; i < first + kSlabBytes / Config::kChunk; ++i) {
    EXPECT_EQ(g_page_map.id_at(i), 0U);
    EXPECT_NE(g_page_map.chunk(i)->kind.load(), ChunkKind::kSlab);
  }
  EXPECT_EQ(slab->cache.load(), nullptr);
}

TEST_F(KmemCacheTest, TrackedSlabsAreIdZeroAndHaveZeroedRecords) {
  KmemCache tracked;
  CacheStats stats{};
  tracked.init(kId, kSize, kSlabBytes, Tracked::kYes, &stats);
  uint32_t* table = nullptr;
  for (int round = 0; round < 3; ++round) {
    Slab* slab = tracked.acquire();
    ASSERT_NE(slab, nullptr);
    EXPECT_EQ(g_page_map.id_at(g_page_map.index_of(slab->base)), 0U);
    ASSERT_NE(slab->records, nullptr);
    for (uint32_t i = 0; i < kCapacity; ++i)
      ASSERT_EQ(slab->records[i], 0U);
    if (table != nullptr) {
      EXPECT_EQ(slab->records, table);  // of the slab before
    }
    table = slab->records;
    tracked.leave(slab);
    EXPECT_EQ(tracked.shrink(), 1U);
  }
  tracked.validate();
}

TEST_F(KmemCacheTest, AcquireSaysSoWhenThereIsNoMemory) {
  if (testing::kThreadSanitizer)
    GTEST_SKIP() << "the sanitizer itself runs out of memory";
  EXPECT_EQ(testing::in_child([this] {
              cache_.leave(cache_.acquire());  // the page heap has its first segment
              testing::limit_address_space(0);
              std::vector<Slab*> slabs;
              while (Slab* slab = cache_.acquire())
                slabs.push_back(slab);
              if (stats_.slabs != slabs.size())
                return 1;
              for (Slab* slab : slabs)
                cache_.leave(slab);
              cache_.validate();
              g_page_heap.validate();
              return cache_.acquire() != nullptr ? 0 : 2;
            }),
            0);
}

TEST_F(KmemCacheTest, EveryClassCanBeCarvedToItsEndAndPutBack) {
  for (unsigned id = 1; id < Config::kOwnId; ++id) {
    const size_t size = SizeClass::size_of(id);
    KmemCache cache;
    CacheStats stats{};
    cache.init(id, size, SizeClass::slab_bytes(size), Tracked::kNo, &stats);
    Slab* slab = cache.acquire();
    ASSERT_NE(slab, nullptr);
    const Chain chain = cache.carve(slab, UINT32_MAX);
    ASSERT_EQ(chain.count, cache.capacity());
    auto* last = reinterpret_cast<char*>(chain.tail);
    last[size - 1] = 'x';
    ASSERT_LE(last + size, slab->base + cache.slab_bytes());
    ASSERT_EQ(cache.index_of(slab, last), cache.capacity() - 1);
    cache.leave(slab);
    ASSERT_EQ(slab->load().state, SlabState::kFull);
    cache.put(slab, chain);
    ASSERT_EQ(stats.slabs_empty, 1U);
    ASSERT_EQ(cache.shrink(), 1U);
    cache.validate();
  }
}

using KmemCacheDeathTest = KmemCacheTest;

TEST_F(KmemCacheDeathTest, AWriteAfterFreeIsSeenWhenTheChainIsWalked) {
  Slab* slab = cache_.acquire();
  std::vector<FreeObject*> objects;
  take(cache_.carve(slab, 3), &objects);
  put_all(slab, objects);
  FreeObject* const good = objects[2]->next;
  for (const uintptr_t bad :
       {uintptr_t{0x4141414141414141}, reinterpret_cast<uintptr_t>(good) + 8}) {
    objects[2]->next = reinterpret_cast<FreeObject*>(bad);
    EXPECT_DEATH(cache_.take_returned(slab, 2), "slabscope: write after free to 0x[0-9a-f]+");
  }
  objects[2]->next = nullptr;
  EXPECT_DEATH(cache_.take_returned(slab, 2), "double free of 0x[0-9a-f]+ .or a write after free");
  objects[2]->next = good;
  cache_.leave(slab);
}

TEST_F(KmemCacheDeathTest, ALinkIntoAnotherSlabOfTheCacheIsASecondFree) {
  std::vector<FreeObject*> others;
  Slab* other = full_slab(&others);
  Slab* slab = cache_.acquire();
  std::vector<FreeObject*> objects;
  take(cache_.carve(slab, 3), &objects);
  put_all(slab, objects);
  FreeObject* const good = objects[2]->next;
  objects[2]->next = others[0];
  EXPECT_DEATH(cache_.take_returned(slab, 2), "double free of 0x[0-9a-f]+ .it is free already");
  objects[2]->next = good;
  cache_.leave(slab);
  put_all(other, others);
}

TEST_F(KmemCacheDeathTest, MoreObjectsBackThanTakenPanics) {
  Slab* slab = cache_.acquire();
  std::vector<FreeObject*> objects;
  take(cache_.carve(slab, 2), &objects);
  put_all(slab, objects);
  EXPECT_DEATH(put(slab, objects[0]),
               "slabscope: double free of 0x[0-9a-f]+ \\(it is free already\\)");
  cache_.leave(slab);
}

}  // namespace
}  // namespace slabscope
