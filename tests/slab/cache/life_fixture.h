// SPDX-License-Identifier: MIT
//
// What the tests of the life of object caches share: caches by name, a place between two steps
// where another thread runs, a flavour of RCU that writes down what it is asked for, and a fixture
// that finds what a test leaves behind.

#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "slab/base/test_point.h"
#include "slab/cache/object_cache.h"
#include "slab/slabscope.h"
#include "tests/slab/slab_fixture.h"

namespace slabscope::testing {

inline slab_cache_args args_with(unsigned flags, void (*ctor)(void*) = nullptr,
                                 void (*dtor)(void*) = nullptr,
                                 const rcu_flavor_struct* rcu = nullptr) {
  return {.align = 0, .flags = flags, .ctor = ctor, .dtor = dtor, .rcu = rcu};
}

inline slab_cache* make_cache(const char* name, size_t size, const slab_cache_args& args = {}) {
  slab_cache* cache = slab_cache_create(name, size, &args);
  EXPECT_NE(cache, nullptr) << name << ": " << std::strerror(errno);
  return cache;
}

inline slab_cache_stats stats_of(slab_cache* cache) {
  slab_cache_stats stats{};
  EXPECT_EQ(slab_cache_get_stats(cache, &stats), 0);
  return stats;
}

inline bool is_gone(slab_cache* cache) {
  slab_cache_stats stats{};
  return slab_cache_get_stats(cache, &stats) == -EINVAL;
}

// The attribute's text, or "-ENODEV" and the like.
inline std::string shown(slab_cache* cache, const char* attribute) {
  char text[128];
  const int length = slab_cache_show(cache, attribute, text, sizeof(text));
  return length < 0 ? std::string("-") + strerrorname_np(-length) : std::string(text);
}

inline std::vector<std::string> listed_names() {
  std::vector<std::string> names;
  slab_cache_for_each(
      [](slab_cache* cache, void* context) {
        static_cast<std::vector<std::string>*>(context)->emplace_back(slab_cache_name(cache));
        return 0;
      },
      &names);
  return names;
}

// Runs `action` once, on the thread that comes by `point` first.
class AtPoint {
 public:
  AtPoint(TestPoint point, std::function<void()> action) {
    wanted_ = point;
    action_ = std::move(action);
    seen_ = 0;
    g_test_point.store(
        [](TestPoint reached, unsigned) {
          if (reached == wanted_ && seen_.fetch_add(1) == 0)
            action_();
        },
        std::memory_order_release);
  }
  ~AtPoint() { g_test_point.store(nullptr, std::memory_order_release); }
  AtPoint(const AtPoint&) = delete;
  AtPoint& operator=(const AtPoint&) = delete;
  static bool seen() { return seen_.load() != 0; }

 private:
  static inline TestPoint wanted_;
  static inline std::function<void()> action_;
  static inline std::atomic<unsigned> seen_{0};
};

// A flag that a thread waits for.
class Signal {
 public:
  void set() {
    set_.store(true);
    set_.notify_all();
  }
  void wait() { set_.wait(false); }
  bool is_set() const { return set_.load(); }
  void clear() { set_.store(false); }

 private:
  std::atomic<bool> set_{false};
};

// A flavour without readers: what it is asked for goes where the test says.
struct FakeRcu {
  // NOLINTBEGIN(readability-identifier-naming): public, as a struct's fields are.
  static inline std::function<void()> on_wait;
  static inline std::function<void()> on_barrier;
  static inline std::atomic<unsigned> waits{0};
  static inline std::atomic<unsigned> barriers{0};
  // NOLINTEND(readability-identifier-naming)

  static const rcu_flavor_struct* flavor() {
    static constexpr RcuFlavor kFlavor = {.read_lock = nullptr,
                                          .read_unlock = nullptr,
                                          .read_ongoing = nullptr,
                                          .read_quiescent_state = nullptr,
                                          .update_call_rcu = nullptr,
                                          .update_synchronize_rcu =
                                              [] {
                                                ++waits;
                                                if (on_wait)
                                                  on_wait();
                                              },
                                          .update_defer_rcu = nullptr,
                                          .thread_offline = nullptr,
                                          .thread_online = nullptr,
                                          .register_thread = nullptr,
                                          .unregister_thread = nullptr,
                                          .barrier =
                                              [] {
                                                ++barriers;
                                                if (on_barrier)
                                                  on_barrier();
                                              }};
    return reinterpret_cast<const rcu_flavor_struct*>(&kFlavor);
  }
  static void reset() {
    on_wait = nullptr;
    on_barrier = nullptr;
    waits = 0;
    barriers = 0;
  }
};

// Each test leaves as many descriptors and references as it found, and no shows.
class LifeTest : public ::testing::Test {
 protected:
  LifeTest() : in_use_(g_object_caches.in_use()), held_(g_object_caches.held()) {
    FakeRcu::reset();
  }
  ~LifeTest() override {
    g_test_point.store(nullptr);
    g_object_caches.settle();
    EXPECT_EQ(g_object_caches.leaving(), 0U);
    EXPECT_EQ(g_object_caches.in_use(), in_use_) << "descriptors are left";
    EXPECT_EQ(g_object_caches.held(), held_) << "references are left";
    FakeRcu::reset();
  }

  unsigned in_use_;
  unsigned held_;
  HooksGuard hooks_;
};

}  // namespace slabscope::testing
