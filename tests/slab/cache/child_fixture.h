// SPDX-License-Identifier: MIT
//
// What the tests of object caches in groups share. Each test leaves no child, group or cache.

#pragma once

#include "slab/cache/cache_child.h"
#include "tests/slab/cache/group_fixture.h"
#include "tests/slab/cache/life_fixture.h"

namespace slabscope::testing {

inline ObjectCache* inside(slab_cache* cache) {
  return reinterpret_cast<ObjectCache*>(cache);
}
inline Group* inside(slab_group* group) {
  return reinterpret_cast<Group*>(group);
}

// The id of a cache's child in a group; 0: there is none.
inline unsigned child_id(slab_cache* cache, slab_group* group) {
  return inside(cache)->child_of(inside(group)->number());
}

inline void* allocate_in(slab_group* group, slab_cache* cache) {
  const GroupScope scope(group);
  return slab_cache_alloc(cache);
}

class ChildTest : public LifeTest {
 protected:
  ChildTest() { EXPECT_EQ(g_cache_children.in_use(), 0U); }
  void SetUp() override {
    if (g_caches.limit() > Config::kMaxCaches - 5 * Config::kGroupIds)
      GTEST_SKIP() << "no ids are left in this process";
  }
  ~ChildTest() override {
    g_object_caches.settle();
    EXPECT_EQ(g_cache_children.in_use(), 0U) << "children are left";
    EXPECT_EQ(g_groups.leaving(), 0U) << "groups are left";
  }
};

}  // namespace slabscope::testing
