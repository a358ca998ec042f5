// SPDX-License-Identifier: MIT
//
// Caches that share slabs because they asked for it: who shares with whom, and what each still has
// of its own.

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "tests/slab/cache/life_fixture.h"

namespace slabscope {
namespace {

using testing::args_with;
using testing::FakeRcu;
using testing::listed_names;
using testing::make_cache;
using testing::shown;
using testing::stats_of;

class CacheMerge : public testing::LifeTest {
 protected:
  // Whether a cache of these arguments shares with one of 64 bytes that asks for it.
  static bool shares(size_t size, const slab_cache_args& args) {
    slab_cache* first = make_cache("first", 64, args_with(SLAB_MERGE));
    slab_cache* second = make_cache("second", size, args);
    void* one = slab_cache_alloc(first);
    void* two = slab_cache_alloc(second);
    const bool same = slab_cache_of(one) == slab_cache_of(two);
    slab_cache_free(first, one);
    slab_cache_free(second, two);
    EXPECT_EQ(slab_cache_destroy(first), 0);
    EXPECT_EQ(slab_cache_destroy(second), 0);
    return same;
  }
};

TEST_F(CacheMerge, OnlyIfBothAskAndTheGeometryIsTheSame) {
  EXPECT_TRUE(shares(64, args_with(SLAB_MERGE)));
  EXPECT_TRUE(shares(57, args_with(SLAB_MERGE))) << "the same place in a slab";
  EXPECT_TRUE(shares(64, args_with(SLAB_MERGE | SLAB_HWCACHE_ALIGN)) == false)
      << "64 bytes at 16 are not at 64";
  EXPECT_FALSE(shares(64, args_with(0)));
  EXPECT_FALSE(shares(80, args_with(SLAB_MERGE)));
  const auto nothing = [](void*) {};
  EXPECT_FALSE(shares(64, args_with(SLAB_MERGE, nothing)));
  EXPECT_FALSE(shares(64, args_with(SLAB_MERGE, nullptr, nothing)));
  EXPECT_FALSE(shares(64, args_with(SLAB_MERGE | SLAB_STORE_USER)));
  EXPECT_FALSE(shares(
      64, args_with(SLAB_MERGE | SLAB_TYPESAFE_BY_RCU, nullptr, nullptr, FakeRcu::flavor())));
}

TEST_F(CacheMerge, EachHasItsNameAndSizeAndAllHaveTheNumbers) {
  slab_cache* small = make_cache("small", 50, args_with(SLAB_MERGE));
  slab_cache* large = make_cache("large", 56, args_with(SLAB_MERGE));
  EXPECT_STREQ(slab_cache_name(small), "small");
  EXPECT_EQ(slab_cache_size(small), 50U);
  EXPECT_EQ(slab_cache_size(large), 56U);
  void* object = slab_cache_zalloc(small);
  EXPECT_EQ(stats_of(large).active_objects, 1U);
  slab_cache* shared = slab_cache_of(object);
  EXPECT_STREQ(slab_cache_name(shared), ":0000056");
  EXPECT_EQ(slab_cache_size(shared), 56U) << "the largest";
  for (slab_cache* cache : {small, large, shared}) {
    EXPECT_EQ(shown(cache, "object_size"), "56\n");
    EXPECT_EQ(shown(cache, "aliases"), "1\n");
    EXPECT_EQ(shown(cache, "objects"), "1 N0=1\n");
  }
  EXPECT_EQ(slab_cache_create("small", 64, nullptr), nullptr);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(listed_names(), (std::vector<std::string>{"small", "large"}));
  EXPECT_EQ(slab_cache_find(":0000056"), shared);
  slab_cache_put(shared);
  slab_cache_free(large, object);
  EXPECT_EQ(slab_cache_destroy(small), 0);
  EXPECT_EQ(slab_cache_find("small"), nullptr);
  EXPECT_EQ(slab_cache_destroy(large), 0);
}

TEST_F(CacheMerge, WhatIsSharedServesAndIsNotDestroyed) {
  slab_cache* alias = make_cache("alias", 64, args_with(SLAB_MERGE));
  void* object = slab_cache_alloc(alias);
  slab_cache* shared = slab_cache_of(object);
  EXPECT_EQ(slab_cache_destroy(shared), -EINVAL);
  EXPECT_EQ(slab_cache_destroy_detach(shared), -EINVAL);
  void* other = slab_cache_alloc(shared);
  EXPECT_NE(other, nullptr);
  slab_cache_free(alias, other);
  slab_cache_free(shared, object);
  EXPECT_EQ(slab_cache_create(":mine", 64, nullptr), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(slab_cache_destroy(alias), 0);
}

TEST_F(CacheMerge, AHeldAliasHoldsWhatItSharesToo) {
  slab_cache* alias = make_cache("alias", 64, args_with(SLAB_MERGE));
  slab_cache* held = slab_cache_find("alias");
  slab_cache_free(alias, slab_cache_alloc(alias));
  EXPECT_EQ(slab_cache_destroy(alias), 0);
  EXPECT_EQ(stats_of(held).active_objects, 0U);
  EXPECT_EQ(g_object_caches.leaving(), 2U);
  slab_cache_put(held);
  EXPECT_EQ(g_object_caches.leaving(), 0U);
}

using CacheMergeDeathTest = CacheMerge;

TEST_F(CacheMergeDeathTest, AliasesFreeEachOthersObjectsAndNoOneElses) {
  slab_cache* one = make_cache("one", 64, args_with(SLAB_MERGE));
  slab_cache* two = make_cache("two", 64, args_with(SLAB_MERGE));
  slab_cache* apart = make_cache("apart", 64);
  void* object = slab_cache_alloc(one);
  EXPECT_DEATH(slab_cache_free(apart, object), "it is of :0000064, freed into apart");
  slab_cache_free(two, object);
  void* foreign = slab_cache_alloc(apart);
  EXPECT_DEATH(slab_cache_free(two, foreign), "it is of apart, freed into two");
  slab_cache_free(apart, foreign);
  void* late = slab_cache_alloc(one);
  EXPECT_EQ(slab_cache_destroy(one), 0);
  EXPECT_DEATH(slab_cache_free(one, late), "it is of :0000064, freed into one that is gone");
  deallocate(late);
  EXPECT_EQ(slab_cache_destroy(two), 0);
  EXPECT_EQ(slab_cache_destroy(apart), 0);
}

}  // namespace
}  // namespace slabscope
