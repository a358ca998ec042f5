// SPDX-License-Identifier: MIT
//
// Test points: places between two steps of a slow path, where a test runs another thread.
//
//   SC_TEST_POINT(kDestroyJudged, id) ─► g_test_point(point, id), if a test has set one
//
// In libslabscope.so they are nothing: only the static library that the unit tests link defines
// SLABSCOPE_TEST_POINTS. Reached without a lock of slab/, so that the test may do anything.

#pragma once

#include <atomic>
#include <cstdint>

namespace slabscope {

enum class TestPoint : uint8_t {
  kCreateNamed,      // the name is taken, nothing else is done
  kAllocateHeld,     // an allocation holds the cache and has found it alive
  kPlaceTaken,       // an allocation has a place, and hands out what is in it next
  kChildFound,       // an allocation found the id of a group's child, and does not hold it yet
  kDestroyDying,     // marked as dying; nothing drained yet
  kDestroyJudged,    // it is known whether objects are in use; nothing is taken from anybody
  kDestroyUnlinked,  // the name is gone; shows may still run
  kDestroyQuiet,     // no show runs; slabs, lists and counts are still there
  kDestroyRetired,   // what was free is given back; the descriptor is still held
  kShowing,          // a show or a store is inside
  kReleased,         // the descriptor is free
  kWalkHeld,         // a walk of a stack holds its place; there is no cache
};

#ifdef SLABSCOPE_TEST_POINTS
using TestPointFunction = void (*)(TestPoint point, unsigned id);
extern constinit std::atomic<TestPointFunction> g_test_point;
#  define SC_TEST_POINT(point, id)                                                     \
    do {                                                                               \
      const auto function = ::slabscope::g_test_point.load(std::memory_order_acquire); \
      if (function != nullptr)                                                         \
        function(::slabscope::TestPoint::point, (id));                                 \
    } while (false)
#else
#  define SC_TEST_POINT(point, id) static_cast<void>(0)
#endif

}  // namespace slabscope
