// SPDX-License-Identifier: MIT
//
// Object caches through their C functions: what create refuses, objects, constructors, misuse.

#include "slab/cache/object_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "slab/slabscope.h"
#include "tests/slab/cache/life_fixture.h"

namespace slabscope {
namespace {

using testing::make_cache;
using testing::stats_of;
using testing::validate_heap;

slab_cache_args with(size_t align, unsigned flags = 0, void (*ctor)(void*) = nullptr,
                     void (*dtor)(void*) = nullptr) {
  return {.align = align, .flags = flags, .ctor = ctor, .dtor = dtor, .rcu = nullptr};
}

int create_error(const char* name, size_t size, const slab_cache_args& args = {}) {
  errno = 0;
  slab_cache* cache = slab_cache_create(name, size, &args);
  if (cache == nullptr)
    return errno;
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  return 0;
}

TEST(ObjectCache, CreateRefusesWhatCannotBe) {
  EXPECT_EQ(create_error(nullptr, 16), EINVAL);
  EXPECT_EQ(create_error("", 16), EINVAL);
  EXPECT_EQ(create_error("two words", 16), EINVAL);
  EXPECT_EQ(create_error("a/b", 16), EINVAL);
  EXPECT_EQ(create_error("line\n", 16), EINVAL);
  EXPECT_EQ(create_error(std::string(64, 'x').c_str(), 16), ENAMETOOLONG);
  EXPECT_EQ(create_error(std::string(63, 'x').c_str(), 16), 0);
  EXPECT_EQ(create_error("sizes", 0), EINVAL);
  EXPECT_EQ(create_error("sizes", SLAB_MAX_OBJECT_SIZE + 1), EINVAL);
  EXPECT_EQ(create_error("sizes", SLAB_MAX_OBJECT_SIZE), 0);
  EXPECT_EQ(create_error("aligns", 16, with(24)), EINVAL);
  EXPECT_EQ(create_error("aligns", 16, with(32768)), EINVAL);
  EXPECT_EQ(create_error("flags", 16, with(0, 1)), EINVAL);
  EXPECT_EQ(create_error("malloc-64", 64), EEXIST);
  EXPECT_EQ(create_error("slabscope", 64), EEXIST);
}

TEST(ObjectCache, ANameIsTakenUntilItsCacheIsDestroyed) {
  slab_cache* cache = make_cache("taken", 48);
  EXPECT_EQ(create_error("taken", 48), EEXIST);
  EXPECT_EQ(create_error("taken", 100), EEXIST);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(create_error("taken", 100), 0);
}

TEST(ObjectCache, ObjectsAreAlignedApartAndFoundAgain) {
  for (const size_t align : {0UL, 8UL, 16UL, 64UL, 256UL, 4096UL, 16384UL}) {
    for (const size_t size : {1UL, 8UL, 24UL, 40UL, 320UL, 1000UL, 9000UL, 32768UL}) {
      slab_cache* cache = make_cache("aligned", size, with(align));
      std::vector<char*> objects;
      for (int i = 0; i < 70; ++i) {
        auto* object = static_cast<char*>(slab_cache_alloc(cache));
        ASSERT_NE(object, nullptr);
        std::memset(object, i, size);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(object) % (align == 0 ? 8 : align), 0U);
        EXPECT_EQ(slab_cache_of(object), cache);
        EXPECT_EQ(slab_cache_of(object + size - 1), cache);
        objects.push_back(object);
      }
      for (int i = 0; i < 70; ++i)
        EXPECT_EQ(objects[static_cast<size_t>(i)][size - 1], static_cast<char>(i));
      EXPECT_EQ(stats_of(cache).active_objects, 70U);
      for (char* object : objects)
        slab_cache_free(cache, object);
      EXPECT_EQ(stats_of(cache).active_objects, 0U);
      EXPECT_EQ(slab_cache_destroy(cache), 0);
    }
  }
  validate_heap();
}

TEST(ObjectCache, HardwareAlignmentKeepsObjectsOffEachOthersLines) {
  slab_cache* large = make_cache("lines", 72, with(0, SLAB_HWCACHE_ALIGN));
  EXPECT_EQ(stats_of(large).object_size, 128U);
  slab_cache* small = make_cache("half-lines", 24, with(0, SLAB_HWCACHE_ALIGN));
  EXPECT_EQ(stats_of(small).object_size, 32U);
  EXPECT_EQ(slab_cache_destroy(large), 0);
  EXPECT_EQ(slab_cache_destroy(small), 0);
}

TEST(ObjectCache, ZeroedObjectsAreZeroAlsoWhenUsedBefore) {
  slab_cache* cache = make_cache("zeroed", 200);
  void* used = slab_cache_alloc(cache);
  std::memset(used, 0xff, 200);
  slab_cache_free(cache, used);
  for (int i = 0; i < 20; ++i) {
    void* object = slab_cache_zalloc(cache);
    EXPECT_TRUE(testing::all_zero(object, 200));
    slab_cache_free(cache, object);
  }
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST(ObjectCache, BulkAllocationIsAllOrNothing) {
  slab_cache* cache = make_cache("bulk", 64);
  std::array<void*, 300> objects{};
  EXPECT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  EXPECT_EQ(std::set<void*>(objects.begin(), objects.end()).size(), objects.size());
  EXPECT_EQ(stats_of(cache).active_objects, objects.size());
  slab_cache_free_bulk(cache, objects.size(), objects.data());
  EXPECT_EQ(stats_of(cache).active_objects, 0U);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  // The last of them cannot be had: none is.
  slab_cache* large = make_cache("bulk-large", 4096);
  const int left = testing::in_child([&] {
    std::vector<void*> many(1 << 20);  // 4 GiB
    testing::limit_address_space(8 << 20);
    const size_t got = slab_cache_alloc_bulk(large, many.size(), many.data());
    const int error = errno;
    testing::lift_address_space_limit();
    return got == 0 && error == ENOMEM && stats_of(large).active_objects == 0 ? 0 : 1;
  });
  if (!testing::kAddressSanitizer && !testing::kThreadSanitizer) {
    EXPECT_EQ(left, 0);
  }
  EXPECT_EQ(slab_cache_destroy(large), 0);
}

TEST(ObjectCache, FreeAndUsableSizeWorkOnObjects) {
  slab_cache* cache = make_cache("by-free", 320);
  void* object = slab_cache_alloc(cache);
  EXPECT_EQ(usable_size(object), 320U);
  deallocate(object);
  EXPECT_EQ(stats_of(cache).active_objects, 0U);
  object = slab_cache_alloc(cache);
  std::memset(object, 7, 320);
  auto* moved = static_cast<char*>(reallocate(object, 5000));
  EXPECT_EQ(moved[319], 7);
  EXPECT_EQ(slab_cache_of(moved), nullptr);
  deallocate(moved);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST(ObjectCache, ShrinkGivesEmptySlabsBack) {
  slab_cache* cache = make_cache("shrunk", 512);
  std::vector<void*> objects(1000);
  ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  slab_cache_free_bulk(cache, objects.size(), objects.data());
  EXPECT_GT(stats_of(cache).slabs, 0U);
  EXPECT_GT(slab_cache_shrink(cache), 0);
  EXPECT_EQ(stats_of(cache).slabs, 0U);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(slab_cache_shrink(nullptr), -EINVAL);
}

TEST(ObjectCache, IterationVisitsEachAndHoldsIt) {
  slab_cache* first = make_cache("iterated-1", 16);
  slab_cache* second = make_cache("iterated-2", 16);
  struct Seen {
    std::set<std::string> names;
    slab_cache* doomed;
    bool held = false;
  } seen{{}, first, false};
  const auto visit = [](slab_cache* cache, void* context) {
    auto* all = static_cast<Seen*>(context);
    all->names.insert(slab_cache_name(cache));
    if (cache != all->doomed)
      return 0;
    EXPECT_EQ(slab_cache_destroy(cache), 0);
    slab_cache_stats stats{};
    all->held = slab_cache_get_stats(cache, &stats) == 0;  // its id is not free yet
    return 0;
  };
  EXPECT_EQ(slab_cache_for_each(visit, &seen), 0);
  EXPECT_TRUE(seen.names.contains("iterated-1") && seen.names.contains("iterated-2"));
  EXPECT_TRUE(seen.held);
  EXPECT_EQ(g_object_caches.leaving(), 0U);
  EXPECT_EQ(slab_cache_for_each([](slab_cache*, void*) { return 42; }, nullptr), 42);
  EXPECT_EQ(slab_cache_destroy(second), 0);
}

TEST(ObjectCache, StoreUserTracksEachObjectWhateverTheModeIs) {
  testing::HooksGuard guard;
  static std::atomic<unsigned> tracked{0};
  tracked = 0;
  g_hooks.track = [](const void*, size_t, size_t, unsigned, uint32_t, uint32_t) -> uint32_t {
    return ++tracked;
  };
  slab_cache* cache = make_cache("stored", 100, with(0, SLAB_STORE_USER));
  std::array<void*, 50> objects{};
  ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  EXPECT_EQ(tracked, 50U);
  slab_cache_free_bulk(cache, objects.size(), objects.data());
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// ---- constructors ---------------------------------------------------------------------------

struct Constructed {
  uint64_t state;
  char rest[56];
};
std::atomic<int> g_constructed{0};
std::atomic<int> g_destructed{0};

void construct(void* object) {
  ++g_constructed;
  static_cast<Constructed*>(object)->state = 0xc0de;
}
void destruct(void* object) {
  ++g_destructed;
  EXPECT_EQ(static_cast<Constructed*>(object)->state, 0xc0deU);
  static_cast<Constructed*>(object)->state = 0xdead;
}

class ObjectCacheConstructor : public ::testing::Test {
 protected:
  ObjectCacheConstructor() {
    g_constructed = 0;
    g_destructed = 0;
  }
  static slab_cache* make_constructed(unsigned flags = 0) {
    return make_cache("constructed", sizeof(Constructed), with(64, flags, construct, destruct));
  }
};

TEST_F(ObjectCacheConstructor, RunsOnceAndTheStateLastsFromFreeToAlloc) {
  for (const unsigned flags : {0U, SLAB_STORE_USER}) {
    slab_cache* cache = make_constructed(flags);
    std::set<void*> seen;
    for (int round = 0; round < 20; ++round) {
      std::array<void*, 100> objects{};
      ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
      for (void* object : objects) {
        EXPECT_EQ(static_cast<Constructed*>(object)->state, 0xc0deU);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(object) % 64, 0U);
        seen.insert(object);
      }
      for (void* object : objects) {
        if (round % 2 == 0) {
          slab_cache_free(cache, object);
        } else {
          deallocate(object);
        }
      }
    }
    EXPECT_GE(static_cast<size_t>(g_constructed.load()), seen.size());
    EXPECT_LT(g_constructed, 1000) << "constructed anew instead of kept";
    EXPECT_EQ(slab_cache_destroy(cache), 0);
    EXPECT_EQ(g_destructed, g_constructed);
  }
  EXPECT_EQ(g_object_caches.leaving(), 0U);
}

TEST_F(ObjectCacheConstructor, ShrinkDestructsWhatItGivesBack) {
  slab_cache* cache = make_constructed();
  std::vector<void*> objects(2000);
  ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  EXPECT_EQ(g_constructed, 2000);
  slab_cache_free_bulk(cache, objects.size(), objects.data());
  slab_cache_shrink(cache);
  EXPECT_EQ(g_destructed, 2000);
  EXPECT_EQ(stats_of(cache).slabs, 0U);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(g_destructed, 2000);
}

TEST_F(ObjectCacheConstructor, EmptySlabsDoNotPileUp) {
  slab_cache* cache = make_constructed();
  std::vector<void*> objects(20000);
  ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  const uint64_t most = stats_of(cache).slabs;
  slab_cache_free_bulk(cache, objects.size(), objects.data());
  EXPECT_LT(stats_of(cache).slabs, most / 4);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(g_destructed, g_constructed);
}

TEST_F(ObjectCacheConstructor, AZombiesObjectsAreDestructedAsTheyAreFreed) {
  slab_cache* cache = make_constructed();
  std::array<void*, 10> objects{};
  ASSERT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  for (size_t i = 0; i < 4; ++i)
    slab_cache_free(cache, objects[i]);
  EXPECT_EQ(slab_cache_destroy_detach(cache), 1);
  EXPECT_EQ(g_destructed, 4);
  for (size_t i = 4; i < 10; ++i) {
    slab_cache_free(cache, objects[i]);
    EXPECT_EQ(g_destructed, static_cast<int>(i) + 1);
  }
  EXPECT_EQ(g_object_caches.leaving(), 0U);
}

TEST_F(ObjectCacheConstructor, MayUseTheHeapAndTheCacheItself) {
  static slab_cache* self = nullptr;
  static std::vector<void*> kept;
  kept.clear();
  const auto nested = [](void* object) {
    ++g_constructed;
    *static_cast<void**>(object) = allocate(100);
    if (g_constructed < 50)
      kept.push_back(slab_cache_alloc(self));
  };
  const auto release = [](void* object) {
    ++g_destructed;
    deallocate(*static_cast<void**>(object));
  };
  self = make_cache("nested", 64, with(0, 0, nested, release));
  kept.push_back(slab_cache_alloc(self));
  EXPECT_EQ(kept.size(), 50U);
  EXPECT_EQ(std::set<void*>(kept.begin(), kept.end()).size(), 50U);
  for (void* object : kept)
    slab_cache_free(self, object);
  EXPECT_EQ(slab_cache_destroy(self), 0);
  EXPECT_EQ(g_destructed, 50);
}

TEST_F(ObjectCacheConstructor, ZallocIsRefused) {
  slab_cache* cache = make_constructed();
  errno = 0;
  EXPECT_EQ(slab_cache_zalloc(cache), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// ---- misuse ---------------------------------------------------------------------------------

using ObjectCacheDeathTest = ObjectCacheConstructor;

TEST_F(ObjectCacheDeathTest, TheWrongCacheIsNamed) {
  slab_cache* right = make_cache("right", 64);
  slab_cache* wrong = make_cache("wrong", 64);
  void* object = slab_cache_alloc(right);
  EXPECT_DEATH(slab_cache_free(wrong, object),
               "slabscope: wrong cache for 0x[0-9a-f]+ \\(it is of right, freed into wrong\\)");
  void* block = allocate(64);
  EXPECT_DEATH(slab_cache_free(wrong, block),
               "wrong cache for 0x[0-9a-f]+ \\(it is malloc's, freed into wrong\\)");
  void* large = allocate(1 << 20);
  EXPECT_DEATH(slab_cache_free(wrong, large), "it is malloc's, freed into wrong");
  int local = 0;
  EXPECT_DEATH(slab_cache_free(wrong, &local), "slabscope: invalid free of 0x[0-9a-f]+ ");
  deallocate(large);
  deallocate(block);
  slab_cache_free(right, object);
  EXPECT_EQ(slab_cache_destroy(right), 0);
  EXPECT_EQ(slab_cache_destroy(wrong), 0);
}

TEST_F(ObjectCacheDeathTest, DoubleFreesAreFound) {
  slab_cache* plain = make_cache("plain", 64);
  slab_cache* constructed = make_constructed();
  slab_cache* stored = make_cache("stored", 64, with(0, SLAB_STORE_USER));
  for (slab_cache* cache : {plain, constructed, stored}) {
    void* object = slab_cache_alloc(cache);
    slab_cache_free(cache, object);
    EXPECT_DEATH(slab_cache_free(cache, object), "slabscope: double free of 0x[0-9a-f]+ ");
    EXPECT_DEATH(deallocate(object), "slabscope: double free of 0x[0-9a-f]+ ");
    EXPECT_EQ(slab_cache_destroy(cache), 0);
    EXPECT_DEATH(slab_cache_free(cache, object),
                 "slabscope: (double|invalid) free of 0x[0-9a-f]+ ");
  }
}

TEST_F(ObjectCacheDeathTest, APointerIntoAnObjectIsNone) {
  slab_cache* constructed = make_constructed();
  auto* object = static_cast<char*>(slab_cache_alloc(constructed));
  EXPECT_DEATH(slab_cache_free(constructed, object + 16),
               "slabscope: invalid free of 0x[0-9a-f]+ \\(no object starts there\\)");
  slab_cache_free(constructed, object);
  EXPECT_EQ(slab_cache_destroy(constructed), 0);
}

}  // namespace
}  // namespace slabscope
