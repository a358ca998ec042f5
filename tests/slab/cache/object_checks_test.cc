// SPDX-License-Identifier: MIT
//
// Caches that are debugged: what lies around their objects, and each kind of damage. In the death
// tests the damage is done in the child, so the cache of the test itself stays whole.

#include "slab/cache/object_checks.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "slab/heap.h"
#include "tests/slab/cache/child_fixture.h"

namespace slabscope {
namespace {

using testing::args_with;
using testing::FakeRcu;
using testing::make_cache;
using testing::shown;

constexpr unsigned kAll = SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER;

class ObjectChecksTest : public testing::ChildTest {
 protected:
  static unsigned char* take(slab_cache* cache) {
    return static_cast<unsigned char*>(slab_cache_alloc(cache));
  }
  static void validate(slab_cache* cache) { (void)slab_cache_store(cache, "validate", "1\n"); }
};
using ObjectChecksDeathTest = ObjectChecksTest;

std::string bytes_of(const unsigned char* from, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    char byte[3];
    (void)std::snprintf(byte, sizeof(byte), "%02x", from[i]);
    text += byte;
  }
  return text;
}

// ---- what is there --------------------------------------------------------------------------

TEST_F(ObjectChecksTest, AttributesSayWhatIsOnAndWhatItTakes) {
  slab_cache* plain = make_cache("plain", 112);
  slab_cache* checked = make_cache("checked", 112, args_with(SLAB_CONSISTENCY_CHECKS));
  slab_cache* zoned = make_cache("zoned", 112, args_with(SLAB_RED_ZONE));
  slab_cache* poisoned = make_cache("poisoned", 112, args_with(SLAB_POISON));
  EXPECT_EQ(shown(plain, "slab_size"), "112\n");
  EXPECT_EQ(shown(checked, "sanity_checks"), "1\n");
  EXPECT_EQ(shown(checked, "red_zone"), "0\n");
  EXPECT_EQ(shown(checked, "slab_size"), "128\n") << "the mark";
  EXPECT_EQ(shown(zoned, "red_zone"), "1\n");
  EXPECT_EQ(shown(zoned, "poison"), "0\n");
  EXPECT_EQ(shown(zoned, "slab_size"), "160\n") << "the mark, and 8 bytes or more on each side";
  EXPECT_EQ(shown(zoned, "objs_per_slab"), "102\n");
  EXPECT_EQ(shown(zoned, "object_size"), "112\n");
  EXPECT_EQ(shown(poisoned, "poison"), "1\n");
  EXPECT_EQ(shown(poisoned, "slab_size"), "128\n");
  for (slab_cache* cache : {plain, checked, zoned, poisoned})
    EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(ObjectChecksTest, BytesAreLinuxs) {
  slab_cache* cache = make_cache("bytes", 24, args_with(SLAB_RED_ZONE | SLAB_POISON));
  unsigned char* object = take(cache);
  EXPECT_EQ(bytes_of(object - 8, 8), "cccccccccccccccc");
  EXPECT_EQ(bytes_of(object, 24), "6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6ba5");
  EXPECT_EQ(bytes_of(object + 24, 8), "cccccccccccccccc");
  std::memset(object, 0x11, 24);
  slab_cache_free(cache, object);
  EXPECT_EQ(bytes_of(object - 8, 8), "bbbbbbbbbbbbbbbb");
  EXPECT_EQ(bytes_of(object, 24), "6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6ba5");
  EXPECT_EQ(bytes_of(object + 24, 8), "bbbbbbbbbbbbbbbb");
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  slab_cache* padded = make_cache("padded", 25, args_with(SLAB_POISON));
  object = take(padded);
  EXPECT_EQ(bytes_of(object + 24, 8), "a55a5a5a5a5a5a5a");
  slab_cache_free(padded, object);
  EXPECT_EQ(slab_cache_destroy(padded), 0);
}

TEST_F(ObjectChecksTest, ObjectsOfAllSizesAreTheProgramsToTheLastByte) {
  for (const size_t align : {0UL, 16UL, 64UL, 4096UL, 16384UL}) {
    for (const size_t size : {1UL, 7UL, 8UL, 24UL, 320UL, 1001UL, 9000UL, 32768UL}) {
      slab_cache_args args = args_with(kAll);
      args.align = align;
      slab_cache* cache = make_cache("whole", size, args);
      std::vector<unsigned char*> objects;
      for (int round = 0; round < 2; ++round) {
        for (int i = 0; i < 40; ++i) {
          unsigned char* object =
              i % 2 == 0 ? take(cache) : static_cast<unsigned char*>(slab_cache_zalloc(cache));
          ASSERT_NE(object, nullptr);
          EXPECT_EQ(reinterpret_cast<uintptr_t>(object) % (align == 0 ? 8 : align), 0U);
          EXPECT_EQ(usable_size(object), size) << "realloc must not grow into a red zone";
          EXPECT_EQ(object[size - 1], i % 2 == 0 ? 0xa5 : 0);
          std::memset(object, i, size);
          objects.push_back(object);
        }
        validate(cache);
        for (unsigned char* object : objects) {
          if (object == objects.back())
            deallocate(object);  // free()
          else
            slab_cache_free(cache, object);
        }
        objects.clear();
        validate(cache);
      }
      EXPECT_EQ(slab_cache_destroy(cache), 0);
    }
  }
}

TEST_F(ObjectChecksTest, SuchCachesAreNeverMerged) {
  for (const unsigned flag : {SLAB_CONSISTENCY_CHECKS, SLAB_RED_ZONE, SLAB_POISON}) {
    slab_cache* cache = make_cache("apart", 64, args_with(SLAB_MERGE | flag));
    void* object = slab_cache_alloc(cache);
    EXPECT_EQ(slab_cache_of(object), cache);
    slab_cache_free(cache, object);
    EXPECT_EQ(slab_cache_destroy(cache), 0);
  }
}

// Linux keeps SLAB_POISON off objects with a constructor or readers, and the flag on.
TEST_F(ObjectChecksTest, WhatKeepsItsStateIsNotPoisoned) {
  const auto construct = [](void* object) { std::memset(object, 0x77, 64); };
  const auto destruct = [](void* object) { EXPECT_EQ(*static_cast<unsigned char*>(object), 0x77); };
  slab_cache* constructed = make_cache("constructed", 64, args_with(kAll, construct, destruct));
  slab_cache* read = make_cache(
      "read", 64, args_with(kAll | SLAB_TYPESAFE_BY_RCU, construct, nullptr, FakeRcu::flavor()));
  for (slab_cache* cache : {constructed, read}) {
    EXPECT_EQ(shown(cache, "poison"), "1\n");
    unsigned char* object = take(cache);
    slab_cache_free(cache, object);
    EXPECT_EQ(bytes_of(object, 4), "77777777") << "a free wrote into it";
    EXPECT_EQ(bytes_of(object + 64, 4), "bbbbbbbb");
    validate(cache);
    EXPECT_EQ(slab_cache_zalloc(cache), nullptr);
    EXPECT_EQ(slab_cache_destroy(cache), 0);
  }
}

TEST_F(ObjectChecksTest, GroupsAndZombiesAreChecked) {
  slab_cache* cache = make_cache("grouped", 64, args_with(kAll));
  slab_group* group = testing::make("grouped");
  auto* object = static_cast<unsigned char*>(testing::allocate_in(group, cache));
  EXPECT_EQ(bytes_of(object + 64, 4), "cccccccc");
  unsigned char* other = take(cache);
  validate(cache);
  slab_cache_free(cache, object);
  EXPECT_EQ(slab_group_destroy(group), 0);
  EXPECT_EQ(slab_cache_destroy_detach(cache), 1);
  std::memset(other, 1, 64);
  slab_cache_free(cache, other);
  EXPECT_TRUE(testing::is_gone(cache));
}

// Objects change hands while somebody looks at all of them.
TEST_F(ObjectChecksTest, ALookDisturbsNobody) {
  slab_cache* cache = make_cache("looked-at", 200, args_with(kAll));
  std::atomic<unsigned> running{3};
  {
    std::vector<testing::SlabThread> threads;
    for (unsigned i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        std::array<void*, 50> objects{};
        for (int round = 0; round < 40; ++round) {
          for (void*& object : objects) {
            object = slab_cache_alloc(cache);
            std::memset(object, static_cast<int>(i), 200);
          }
          for (void* object : objects)
            slab_cache_free(cache, object);
        }
        --running;
      });
    }
    while (running != 0) {
      validate(cache);
      EXPECT_GE(slab_cache_shrink(cache), 0);
    }
  }
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// ---- damage ---------------------------------------------------------------------------------

TEST_F(ObjectChecksDeathTest, AWriteBehindIsFoundAtFreeAndByALook) {
  slab_cache* cache = make_cache("behind", 100, args_with(SLAB_RED_ZONE));
  unsigned char* object = take(cache);
  EXPECT_DEATH((object[100] = 0x41, slab_cache_free(cache, object)),
               "slabscope: write behind 0x[0-9a-f]+ \\(behind: red zone at offset 100 holds 0x41, "
               "not 0xcc; 1 byte\\)");
  EXPECT_DEATH((std::memset(object, 0x42, 103), deallocate(object)),
               "red zone at offset 100 holds 0x42, not 0xcc; 3 bytes\\)");
  EXPECT_DEATH((object[107] = 1, validate(cache)), "offset 107 holds 0x1, not 0xcc");
  slab_cache_free(cache, object);
  EXPECT_DEATH((object[100] = 0xcc, (void)slab_cache_destroy(cache)),
               "write behind 0x[0-9a-f]+ \\(behind: red zone at offset 100 holds 0xcc, not 0xbb; "
               "1 byte, while it was free\\)");
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(ObjectChecksDeathTest, AWriteBeforeIsFoundAtFreeAndByALook) {
  slab_cache* cache = make_cache("before", 100, args_with(SLAB_RED_ZONE));
  unsigned char* object = take(cache);
  EXPECT_DEATH((object[-1] = 0x41, slab_cache_free(cache, object)),
               "slabscope: write before 0x[0-9a-f]+ \\(before: red zone at offset -1 holds 0x41, "
               "not 0xcc; 1 byte\\)");
  EXPECT_DEATH((object[-8] = 0, validate(cache)), "offset -8 holds 0x0, not 0xcc");
  slab_cache_free(cache, object);
  EXPECT_DEATH((object[-2] = 0, (void)take(cache)), "offset -2 holds 0x0, not 0xbb; 1 byte, while");
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(ObjectChecksDeathTest, AWriteAfterFreeIsFoundWhereverTheObjectGoesNext) {
  slab_cache* cache = make_cache("after", 100, args_with(SLAB_POISON));
  unsigned char* object = take(cache);
  slab_cache_free(cache, object);
  EXPECT_DEATH((object[12] = 0x41, (void)take(cache)),
               "slabscope: write after free to 0x[0-9a-f]+ \\(after: offset 12 holds 0x41, not "
               "0x6b; 1 byte\\)");
  EXPECT_DEATH((object[99] = 0x6b, validate(cache)), "offset 99 holds 0x6b, not 0xa5");
  EXPECT_DEATH((object[0] = 0, (void)slab_cache_destroy(cache)), "offset 0 holds 0x0, not 0x6b");
  EXPECT_DEATH((object[1] = 0, (void)slab_cache_shrink(cache)), "offset 1 holds 0x0, not 0x6b");
  EXPECT_DEATH((object[100] = 0, validate(cache)),
               "write behind 0x[0-9a-f]+ \\(after: padding at offset 100 holds 0x0, not 0x5a");
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// Without the flag a second free is found when its slab gets it back, or among the last few.
TEST_F(ObjectChecksDeathTest, ASecondFreeIsFoundAtOnce) {
  slab_cache* cache = make_cache("twice", 64, args_with(SLAB_CONSISTENCY_CHECKS));
  std::array<void*, 100> objects{};
  EXPECT_EQ(slab_cache_alloc_bulk(cache, objects.size(), objects.data()), objects.size());
  slab_cache_free_bulk(cache, objects.size(), objects.data());
  EXPECT_DEATH((slab_cache_free(cache, objects[0]), _exit(0)),
               "slabscope: double free of 0x[0-9a-f]+ \\(it is free already\\)");
  EXPECT_DEATH((deallocate(objects[50]), _exit(0)), "double free of");
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(ObjectChecksDeathTest, APointerIntoAnObjectIsFoundAtOnce) {
  slab_cache* cache = make_cache("inside", 64, args_with(SLAB_CONSISTENCY_CHECKS));
  unsigned char* object = take(cache);
  EXPECT_DEATH((slab_cache_free(cache, object + 8), _exit(0)),
               "slabscope: invalid free of 0x[0-9a-f]+ \\(no object starts there\\)");
  EXPECT_DEATH((deallocate(object + 32), _exit(0)), "invalid free of");
  EXPECT_DEATH((slab_cache_free(cache, object + size_t{80} * 190), _exit(0)),
               "invalid free of 0x[0-9a-f]+ \\(it was never allocated");
  slab_cache_free(cache, object);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(ObjectChecksDeathTest, AConstructorThatWritesTooMuchIsFound) {
  const auto too_much = [](void* object) { std::memset(object, 0, 65); };
  slab_cache* cache = make_cache("made", 64, args_with(SLAB_RED_ZONE, too_much));
  EXPECT_DEATH((void)take(cache), "write behind 0x[0-9a-f]+ \\(made: red zone at offset 64");
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

TEST_F(ObjectChecksDeathTest, WhoAllocatedItIsTold) {
  g_hooks.track = [](const void*, size_t, size_t, unsigned, uint32_t, uint32_t) { return 17U; };
  g_hooks.allocation_place = [](uint32_t record, char* text, size_t size) {
    return static_cast<size_t>(std::snprintf(text, size, "server+0x%x", record));
  };
  slab_cache* cache = make_cache("stored", 64, args_with(kAll));
  unsigned char* object = take(cache);
  for (const auto find : {slab_cache_free, +[](slab_cache*in, void*) { validate(in); }}) {
    EXPECT_DEATH((object[64] = 0, find(cache, object)), "; 1 byte; allocated at server.0x11\\)");
  }
  slab_cache_free(cache, object);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

// A handler of abort() may allocate from a cache that is debugged, too.
TEST_F(ObjectChecksDeathTest, NoLockIsHeldWhenTheProgramEnds) {
  slab_cache* cache = make_cache("handled", 64, args_with(SLAB_RED_ZONE | SLAB_POISON));
  static slab_cache* spare;
  spare = make_cache("spare", 64, args_with(kAll));
  unsigned char* object = take(cache);
  const auto end = [&](void (*damage)(slab_cache*, unsigned char*)) {
    (void)std::signal(SIGABRT, [](int) {
      slab_cache_free(spare, slab_cache_alloc(spare));
      _exit(9);
    });
    damage(cache, object);
  };
  EXPECT_EXIT(end([](slab_cache* in, unsigned char* at) { at[64] = 0, slab_cache_free(in, at); }),
              ::testing::ExitedWithCode(9), "write behind");
  EXPECT_EXIT(end([](slab_cache* in, unsigned char* at) { at[64] = 0, validate(in); }),
              ::testing::ExitedWithCode(9), "write behind");
  slab_cache_free(cache, object);
  EXPECT_EXIT(end([](slab_cache* in, unsigned char* at) { at[4] = 0, (void)take(in); }),
              ::testing::ExitedWithCode(9), "write after free");
  EXPECT_EQ(slab_cache_destroy(cache), 0);
  EXPECT_EQ(slab_cache_destroy(spare), 0);
}

// The child of a fork finds no place half filled, and no lock that nobody lets go.
TEST_F(ObjectChecksTest, AForkTakesTheLock) {
  slab_cache* cache = make_cache("forked", 64, args_with(kAll));
  void* object = slab_cache_alloc(cache);
  heap_lock_for_fork();
  EXPECT_FALSE(g_object_checks_mutex.try_lock());
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    heap_reset_after_fork();
    slab_cache_free(cache, object);
    _exit(slab_cache_destroy(cache) == 0 ? 0 : 1);
  }
  heap_unlock_after_fork();
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  slab_cache_free(cache, object);
  EXPECT_EQ(slab_cache_destroy(cache), 0);
}

}  // namespace
}  // namespace slabscope
