// SPDX-License-Identifier: MIT

#include "slab/cache/cache_table.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <string>

#include "slab/cache/size_class.h"
#include "tests/slab/slab_fixture.h"

namespace slabscope {
namespace {

struct Created {
  CacheInfo info;
  std::string name;
};

// A table of its own: the process's has been used by other tests.
class CacheTableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    created_.clear();
    stats_ = {};
    g_hooks.cache_created = [](const CacheInfo& info) {
      created_[info.id].push_back({info, info.name});
      return &stats_[info.id];
    };
  }

  testing::HooksGuard hooks_;
  CacheTable table_;
  static std::map<unsigned, std::vector<Created>> created_;
  static std::array<CacheStats, Config::kLargeId + 1> stats_;
};
std::map<unsigned, std::vector<Created>> CacheTableTest::created_;
std::array<CacheStats, Config::kLargeId + 1> CacheTableTest::stats_;

TEST_F(CacheTableTest, NothingIsReadyBeforeItIsNeeded) {
  for (unsigned id = 1; id <= Config::kLargeId; ++id)
    EXPECT_FALSE(table_.ready(id));
  table_.need(5);
  EXPECT_TRUE(table_.ready(5));
  EXPECT_FALSE(table_.ready(4));
  EXPECT_EQ(created_.size(), 1U);
}

TEST_F(CacheTableTest, EachCacheIsAnnouncedOnceWithItsGeometryAndName) {
  for (int round = 0; round < 2; ++round) {
    for (unsigned id = 1; id <= Config::kLargeId; ++id)
      table_.need(id);
  }
  for (unsigned id = 1; id < Config::kOwnId; ++id) {
    ASSERT_EQ(created_[id].size(), 1U);
    const Created& created = created_[id][0];
    const size_t size = SizeClass::size_of(id);
    EXPECT_EQ(created.name, "malloc-" + std::to_string(size));
    EXPECT_EQ(created.info.object_size, size);
    EXPECT_EQ(created.info.slab_bytes, SizeClass::slab_bytes(size));
    EXPECT_EQ(created.info.objects_per_slab, SizeClass::slab_bytes(size) / size);
  }
  ASSERT_EQ(created_[Config::kOwnId].size(), 1U);
  EXPECT_EQ(created_[Config::kOwnId][0].name, "slabscope");
  EXPECT_EQ(created_[Config::kOwnId][0].info.object_size, size_t{Config::kOwnObjectBytes});
  ASSERT_EQ(created_[Config::kLargeId].size(), 1U);
  EXPECT_EQ(created_[Config::kLargeId][0].name, "malloc-large");
  EXPECT_EQ(created_[Config::kLargeId][0].info.object_size, 0U);
}

TEST_F(CacheTableTest, TwinsDifferInTrackingOnly) {
  table_.need(9);
  const KmemCache* plain = table_.plain(9);
  const KmemCache* tracked = table_.tracked(9);
  EXPECT_FALSE(plain->tracked());
  EXPECT_TRUE(tracked->tracked());
  EXPECT_EQ(plain->id(), 9U);
  EXPECT_EQ(tracked->id(), 9U);
  EXPECT_EQ(plain->object_size(), tracked->object_size());
  EXPECT_EQ(plain->slab_bytes(), tracked->slab_bytes());
  EXPECT_EQ(&plain->stats(), &tracked->stats());
  EXPECT_EQ(&table_.stats(9), &stats_[9]);
}

TEST_F(CacheTableTest, ThreadsThatNeedTheSameCachesMakeEachOnce) {
  // The hook runs under the table's lock, so the map needs no other.
  testing::in_threads(4, [this](unsigned) {
    for (unsigned id = 1; id <= Config::kLargeId; ++id) {
      table_.need(id);
      EXPECT_EQ(&table_.stats(id), &stats_[id]);
    }
  });
  for (unsigned id = 1; id <= Config::kLargeId; ++id)
    EXPECT_EQ(created_[id].size(), 1U);
}

TEST_F(CacheTableTest, ShrinkAllReleasesTheEmptySlabsOfPlainAndTrackedCaches) {
  table_.need(3);
  table_.need(70);
  for (KmemCache* cache : {table_.plain(3), table_.tracked(3), table_.plain(70)}) {
    Slab* slab = cache->acquire();
    ASSERT_NE(slab, nullptr);
    cache->put(slab, cache->carve(slab, 4));
    cache->leave(slab);
  }
  EXPECT_EQ(stats_[3].slabs_empty, 2U);
  EXPECT_EQ(table_.shrink_all(), 3U);
  EXPECT_EQ(stats_[3].slabs_empty + stats_[3].slabs + stats_[3].slabs_partial, 0U);
  EXPECT_EQ(stats_[70].slabs_released, 1U);
  EXPECT_EQ(table_.shrink_all(), 0U);
  table_.plain(3)->validate();
  table_.tracked(3)->validate();
}

TEST_F(CacheTableTest, LocksForForkCoverTheReadyCaches) {
  table_.need(3);
  table_.lock_for_fork();
  EXPECT_EQ(testing::in_child([this] {
              table_.reset_after_fork();
              table_.need(4);
              Slab* slab = table_.plain(3)->acquire();
              table_.plain(3)->leave(slab);
              return table_.plain(3)->shrink() == 1 ? 0 : 1;
            }),
            0);
  table_.unlock_after_fork();
  table_.need(5);
  EXPECT_TRUE(table_.ready(5));
}

}  // namespace
}  // namespace slabscope
