// SPDX-License-Identifier: MIT
//
// SLABSCOPE_DEBUG as text, and what it does to caches.

#include "slab/cache/debug_spec.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/slab/cache/life_fixture.h"

namespace slabscope {
namespace {

using testing::args_with;
using testing::make_cache;
using testing::shown;

constexpr uint32_t kF = SLAB_CONSISTENCY_CHECKS;
constexpr uint32_t kZ = SLAB_RED_ZONE;
constexpr uint32_t kP = SLAB_POISON;
constexpr uint32_t kU = SLAB_STORE_USER;

TEST(DebugSpec, LettersAreFlags) {
  EXPECT_EQ(debug_flags_for("", "any"), 0U);
  EXPECT_EQ(debug_flags_for("F", "any"), kF);
  EXPECT_EQ(debug_flags_for("fzpu", "any"), kF | kZ | kP | kU);
  EXPECT_EQ(debug_flags_for("-", "any"), 0U);
  EXPECT_EQ(debug_flags_for("FZ-P", "any"), kP);
  EXPECT_EQ(debug_flags_for(",one", "one"), kF | kZ | kP | kU) << "no letters: all of them";
}

TEST(DebugSpec, NamesAndGlobs) {
  EXPECT_EQ(debug_flags_for("Z,one", "one"), kZ);
  EXPECT_EQ(debug_flags_for("Z,one", "one2"), 0U);
  EXPECT_EQ(debug_flags_for("Z,one", "on"), 0U);
  EXPECT_EQ(debug_flags_for("Z,zero,one", "one"), kZ);
  EXPECT_EQ(debug_flags_for("Z,conn*", "connections"), kZ);
  EXPECT_EQ(debug_flags_for("Z,conn*", "conn"), kZ);
  EXPECT_EQ(debug_flags_for("Z,conn*", "con"), 0U);
  EXPECT_EQ(debug_flags_for("Z,*", "any"), kZ);
  EXPECT_EQ(debug_flags_for("Z,,one,", "one"), kZ);
  EXPECT_EQ(debug_flags_for("Z,", ""), 0U);
}

TEST(DebugSpec, TheFirstBlockWithTheNameWinsElseTheLastWithoutNames) {
  EXPECT_EQ(debug_flags_for("Z,one;P,o*", "one"), kZ);
  EXPECT_EQ(debug_flags_for("Z,one;P,o*", "other"), kP);
  EXPECT_EQ(debug_flags_for("FZ;-,handle*", "handles"), 0U);
  EXPECT_EQ(debug_flags_for("FZ;-,handle*", "other"), kF | kZ);
  EXPECT_EQ(debug_flags_for("F;;P;", "any"), kP);
  EXPECT_EQ(debug_flags_for(";;Z,one;U", "one"), kZ);
}

TEST(DebugSpec, ProblemsAreToldAndTheRestHolds) {
  for (const char* good : {"", "-", "FZPU", "F,conn*;-,handle*", ",one;;", "Z,malloced", "Z,*"})
    EXPECT_EQ(debug_spec_problem(good), nullptr) << good;
  for (const char* bad : {"X", "FZT", "F,one;Q,two", "Z one", "Z\xff"}) {
    ASSERT_NE(debug_spec_problem(bad), nullptr) << bad;
    EXPECT_NE(std::string(debug_spec_problem(bad)).find("letters"), std::string::npos);
  }
  EXPECT_EQ(debug_flags_for("FTX", "any"), kF);
  ASSERT_NE(debug_spec_problem("Z,one,malloc-64"), nullptr);
  EXPECT_NE(std::string(debug_spec_problem("Z,malloc-*")).find("malloc"), std::string::npos);
}

class DebugSpecCaches : public testing::LifeTest {
 protected:
  ~DebugSpecCaches() override { g_object_caches.set_debug(""); }
};

TEST_F(DebugSpecCaches, CachesAreMadeWithWhatItAdds) {
  g_object_caches.set_debug("FZ,conn*;-,quiet;P");
  slab_cache* connections = make_cache("connections", 64, args_with(SLAB_MERGE));
  slab_cache* quiet = make_cache("quiet", 64, args_with(SLAB_RED_ZONE));
  slab_cache* other = make_cache("other", 64);
  EXPECT_EQ(shown(connections, "red_zone") + shown(connections, "sanity_checks"), "1\n1\n");
  EXPECT_EQ(shown(connections, "poison") + shown(connections, "aliases"), "0\n0\n");
  EXPECT_EQ(shown(quiet, "red_zone"), "1\n") << "what it asked for itself";
  EXPECT_EQ(shown(quiet, "poison"), "0\n");
  EXPECT_EQ(shown(other, "poison"), "1\n");
  void* object = slab_cache_alloc(connections);
  EXPECT_EQ(slab_cache_of(object), connections) << "it was merged";
  slab_cache_free(connections, object);
  for (slab_cache* cache : {connections, quiet, other})
    EXPECT_EQ(slab_cache_destroy(cache), 0);
}

}  // namespace
}  // namespace slabscope
