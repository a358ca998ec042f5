// SPDX-License-Identifier: MIT
//
// What the tests of groups share.

#pragma once

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "slab/cache/group.h"
#include "slab/slabscope.h"
#include "tests/slab/slab_fixture.h"

namespace slabscope::testing {

inline slab_group* make(const char* name) {
  slab_group* group = slab_group_create(name);
  EXPECT_NE(group, nullptr) << name << ": " << std::strerror(errno);
  return group;
}

inline slab_group_stats stats_of(const slab_group* group) {
  slab_group_stats stats{};
  EXPECT_EQ(slab_group_get_stats(group, &stats), 0);
  return stats;
}

inline bool gone(const slab_group* group) {
  slab_group_stats stats{};
  return slab_group_get_stats(group, &stats) == -EINVAL;
}

// The id of the cache that a free of `object` goes to, tracked or not.
inline unsigned id_of(const void* object) {
  return g_page_map.find(object)->slab->cache.load()->id();
}

inline unsigned base_of(slab_group* group) {
  return reinterpret_cast<Group*>(group)->base();
}

class GroupScope {
 public:
  explicit GroupScope(slab_group* group) { slab_group_enter(group); }
  ~GroupScope() { slab_group_leave(); }
  GroupScope(const GroupScope&) = delete;
  GroupScope& operator=(const GroupScope&) = delete;
};

class GroupTest : public ::testing::Test {
 protected:
  GroupTest() {
    EXPECT_EQ(g_groups.leaving(), 0U);
    g_hooks.group_destroy_refused = [](const RefusedGroup& what) { refused_.push_back(what); };
    refused_.clear();
  }
  // One process for all tests of slab/, as by hand, has none left once a test has taken all ids.
  void SetUp() override {
    if (g_caches.limit() > Config::kMaxCaches - 4 * Config::kGroupIds)
      GTEST_SKIP() << "no ids are left in this process";
  }
  ~GroupTest() override { EXPECT_EQ(g_groups.leaving(), 0U); }

  HooksGuard hooks_;
  static inline std::vector<RefusedGroup> refused_;
};

}  // namespace slabscope::testing
