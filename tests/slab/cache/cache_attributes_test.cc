// SPDX-License-Identifier: MIT
//
// Attributes: Linux's names and formats, and what may be written.

#include "slab/cache/cache_attributes.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <string>

#include "tests/slab/cache/child_fixture.h"

namespace slabscope {
namespace {

using testing::args_with;
using testing::FakeRcu;
using testing::make_cache;
using testing::shown;
using testing::stats_of;

class CacheAttributes : public testing::LifeTest {};

TEST_F(CacheAttributes, FormatsAreLinuxs) {
  slab_cache* cache = make_cache("plain", 100, args_with(SLAB_HWCACHE_ALIGN));
  EXPECT_EQ(shown(cache, "object_size"), "100\n");
  EXPECT_EQ(shown(cache, "slab_size"), "128\n");
  EXPECT_EQ(shown(cache, "align"), "64\n");
  EXPECT_EQ(shown(cache, "order"), "2\n");
  EXPECT_EQ(shown(cache, "objs_per_slab"), "128\n");
  EXPECT_EQ(shown(cache, "objects"), "0\n");
  EXPECT_EQ(shown(cache, "slabs_cpu_partial"), "0(0)\n");
  EXPECT_EQ(shown(cache, "cpu_partial"), "0\n");
  EXPECT_EQ(shown(cache, "hwcache_align"), "1\n");
  EXPECT_EQ(shown(cache, "store_user"), "0\n");
  EXPECT_EQ(shown(cache, "ctor"), "");
  EXPECT_EQ(shown(cache, "shrink"), "");
  EXPECT_EQ(shown(cache, "validate"), "");
  EXPECT_EQ(shown(cache, "aliases"), "0\n");
  for (const char* off : {"sanity_checks", "red_zone", "poison", "trace", "reclaim_account",
                          "cache_dma", "usersize", "destroy_by_rcu"}) {
    EXPECT_EQ(shown(cache, off), "0\n") << off;
  }
  std::array<void*, 300> objects{};
  EXPECT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  EXPECT_EQ(shown(cache, "objects"), "300 N0=300\n");
  EXPECT_EQ(shown(cache, "slabs"), "3 N0=3\n");
  EXPECT_EQ(shown(cache, "total_objects"), "384 N0=384\n");
  EXPECT_EQ(shown(cache, "cpu_slabs"), "1 N0=1\n");
  EXPECT_EQ(shown(cache, "alloc_slab"), "3\n");
  slab_cache_free_bulk(cache, objects.size(), objects.data());
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheAttributes, ObjectsOfPartialSlabs) {
  slab_cache* cache = make_cache("partial", 1024);
  std::array<void*, 48> objects{};
  EXPECT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  EXPECT_EQ(slab_cache_store(cache, "shrink", "1\n"), 0);  // lists go back, slabs to the cache
  EXPECT_EQ(shown(cache, "cpu_slabs"), "0\n");
  for (size_t i = 0; i < objects.size(); i += 4) {
    slab_cache_free(cache, objects[i]);
  }
  EXPECT_EQ(slab_cache_store(cache, "shrink", "1"), 0);
  EXPECT_EQ(shown(cache, "objects_partial"), "36 N0=36\n");
  EXPECT_EQ(shown(cache, "partial"), "3 N0=3\n");
  for (size_t i = 0; i < objects.size(); ++i) {
    if (i % 4 != 0)
      slab_cache_free(cache, objects[i]);
  }
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheAttributes, ConstructorsAndReadersAreSeen) {
  const auto nothing = [](void*) {};
  slab_cache* cache = make_cache(
      "kept", 64,
      args_with(SLAB_TYPESAFE_BY_RCU | SLAB_STORE_USER, nothing, nothing, FakeRcu::flavor()));
  EXPECT_EQ(shown(cache, "destroy_by_rcu"), "1\n");
  EXPECT_EQ(shown(cache, "store_user"), "1\n");
  EXPECT_EQ(shown(cache, "ctor").substr(0, 2), "0x");
  EXPECT_EQ(shown(cache, "object_size"), "64\n");
  EXPECT_EQ(shown(cache, "slab_size"), "80\n") << "16 bytes before each object";
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheAttributes, WhatDoesNotFitIsCutAndItsLengthTold) {
  slab_cache* cache = make_cache("cut", 64);
  char text[4] = "???";
  EXPECT_EQ(slab_cache_show(cache, "slabs_cpu_partial", text, sizeof(text)), 5);
  EXPECT_STREQ(text, "0(0");
  EXPECT_EQ(slab_cache_show(cache, "object_size", nullptr, 0), 3);
  EXPECT_EQ(shown(cache, "no_such"), "-ENOENT");
  EXPECT_EQ(shown(cache, "alloc_calls"), "-ENOSYS");
  EXPECT_EQ(slab_cache_show(nullptr, "objects", text, sizeof(text)), -EINVAL);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheAttributes, OnlyWhatIsWritableIsAndSaysWhatItTakes) {
  slab_cache* cache = make_cache("written", 64);
  EXPECT_EQ(slab_cache_store(cache, "objects", "0"), -EACCES);
  EXPECT_EQ(slab_cache_store(cache, "no_such", "0"), -ENOENT);
  EXPECT_EQ(slab_cache_store(cache, "shrink", "2"), -EINVAL);
  EXPECT_EQ(slab_cache_store(cache, "validate", "0"), -EINVAL);
  EXPECT_EQ(slab_cache_store(cache, "validate", "1\n"), 0);
  EXPECT_EQ(slab_cache_store(cache, "cpu_partial", "0\n"), 0);
  EXPECT_EQ(slab_cache_store(cache, "cpu_partial", "30"), -EINVAL);
  for (const char* bad : {"", "\n", "-1", "1x", "0x10", "99999999999999999999", "4294967296"})
    EXPECT_EQ(slab_cache_store(cache, "min_partial", bad), -EINVAL) << bad;
  EXPECT_EQ(shown(cache, "min_partial"), "1\n");
  EXPECT_EQ(slab_cache_store(cache, "min_partial", "5\n"), 0);
  EXPECT_EQ(shown(cache, "min_partial"), "5\n");
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  // The next cache with this record starts anew.
  slab_cache* next = make_cache("next", 64);
  EXPECT_EQ(shown(next, "min_partial"), "1\n");
  EXPECT_EQ(slab_cache_destroy(next), 0);
}

TEST_F(CacheAttributes, MinPartialSaysHowManyEmptySlabsStay) {
  slab_cache* cache = make_cache("empties", 2048);
  std::array<void*, 80> objects{};
  for (const char* keep : {"0", "3", "1"}) {
    EXPECT_EQ(slab_cache_store(cache, "min_partial", keep), 0);
    EXPECT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
    slab_cache_free_bulk(cache, objects.size(), objects.data());
    ThreadCache::current()->flush_all();
    EXPECT_EQ(std::to_string(stats_of(cache).slabs_empty), keep);
    EXPECT_EQ(slab_cache_shrink(cache), std::stoi(keep));
  }
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(CacheAttributes, StatisticsAreResetForReadersOfThemAlone) {
  slab_cache* cache = make_cache("counted", 64);
  for (int i = 0; i < 1000; ++i)
    slab_cache_free(cache, slab_cache_alloc(cache));
  EXPECT_EQ(std::stoi(shown(cache, "alloc_fastpath")) + std::stoi(shown(cache, "alloc_slowpath")),
            1000);
  EXPECT_EQ(slab_cache_store(cache, "alloc_fastpath", "1"), -EINVAL);
  EXPECT_EQ(slab_cache_store(cache, "alloc_fastpath", "0\n"), 0);
  EXPECT_EQ(slab_cache_store(cache, "alloc_slab", "0"), 0);
  EXPECT_EQ(shown(cache, "alloc_fastpath"), "0\n");
  EXPECT_EQ(shown(cache, "alloc_slab"), "0\n");
  EXPECT_EQ(stats_of(cache).allocations_total, 1000U) << "totals never fall";
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// Lines are the watcher's; whether there are any, the cache's.
TEST_F(CacheAttributes, WhoAllocatedIsKnownOfCachesThatStoreIt) {
  static unsigned asked;
  asked = 0;
  g_hooks.allocation_places = [](unsigned cache, char* text, size_t size) {
    asked = cache;
    return static_cast<size_t>(std::snprintf(text, size, "      2 server+0x12ab age=7 pid=4711\n"));
  };
  slab_cache* plain = make_cache("anonymous", 64);
  EXPECT_EQ(shown(plain, "alloc_calls"), "-ENOSYS");
  EXPECT_EQ(shown(plain, "free_calls"), "-ENOSYS");
  EXPECT_EQ(asked, 0U);
  slab_cache* stored = make_cache("stored", 64, args_with(SLAB_STORE_USER));
  EXPECT_EQ(shown(stored, "free_calls"), "No data\n");
  std::array<void*, 12> objects{};
  EXPECT_EQ(slab_cache_alloc_bulk(stored, objects.size(), objects.data()), objects.size());
  EXPECT_EQ(shown(stored, "alloc_calls"), "      2 server+0x12ab age=7 pid=4711\n");
  EXPECT_EQ(asked, testing::inside(stored)->id());
  EXPECT_EQ(shown(stored, "free_calls"), "     12 <not-available>\n");
  EXPECT_EQ(slab_cache_show(stored, "alloc_calls", nullptr, 0), 37);
  char text[8];
  EXPECT_EQ(slab_cache_show(stored, "alloc_calls", text, sizeof(text)), 37);
  EXPECT_STREQ(text, "      2");
  slab_cache_free_bulk(stored, objects.size(), objects.data());
  g_hooks.allocation_places = [](unsigned, char*, size_t) { return size_t{0}; };
  EXPECT_EQ(shown(stored, "alloc_calls"), "No data\n");
  EXPECT_EQ(slab_cache_destroy(plain), 0);
  EXPECT_EQ(slab_cache_destroy(stored), 0);
}

}  // namespace
}  // namespace slabscope
