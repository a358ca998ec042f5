// SPDX-License-Identifier: MIT
//
// Counts the library's instructions in a slab_cache_alloc and a slab_cache_free that take the fast
// path, and in a malloc and a free: an object of a cache must cost no more. In a group malloc takes
// the same path, and a cache one step more, as it finds the group's child: no slow path, no lock.
#include <dlfcn.h>

#include <cstdio>

#include "slab/slabscope.h"
#include "tests/golden/step_count.h"
#include "tests/support/check.h"

using slabscope::test::count_here;
using slabscope::test::opaque;

namespace {

template <typename Function>
Function* find(const char* name) {
  auto* found = reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
  SC_EXPECT(found != nullptr);
  return found;
}

auto* const g_malloc = find<void*(size_t)>("malloc");
auto* const g_free = find<void(void*)>("free");
auto* const g_alloc = find<decltype(slab_cache_alloc)>("slab_cache_alloc");
auto* const g_give = find<decltype(slab_cache_free)>("slab_cache_free");

__attribute__((noinline)) void malloc_pair(size_t bytes) {
  g_free(opaque(g_malloc(bytes)));
}
__attribute__((noinline)) void cache_pair(slab_cache* cache) {
  g_give(cache, opaque(g_alloc(cache)));
}
__attribute__((noinline)) void cache_and_free_pair(slab_cache* cache) {
  g_free(opaque(g_alloc(cache)));
}

void count_all(slab_cache* cache) {
  count_here([] { malloc_pair(64); });
  count_here([cache] { cache_pair(cache); });
  count_here([cache] { cache_and_free_pair(cache); });
}

void child() {
  auto* cache = find<decltype(slab_cache_create)>("slab_cache_create")("counted", 64, nullptr);
  auto* group = find<decltype(slab_group_create)>("slab_group_create")("group");
  SC_EXPECT(cache != nullptr && group != nullptr);
  count_all(cache);
  find<decltype(slab_group_enter)>("slab_group_enter")(group);
  count_all(cache);
}

struct Counts {
  int by_malloc;
  int by_cache;
  int by_cache_and_free;
};

Counts read(slabscope::test::Stepper& steps, const char* where) {
  const int by_malloc = steps.next();
  const int by_cache = steps.next();
  const int by_cache_and_free = steps.next();
  std::printf("%s: malloc + free %d, slab_cache_alloc + slab_cache_free %d, with free %d\n", where,
              by_malloc, by_cache, by_cache_and_free);
  std::fflush(stdout);
  return {by_malloc, by_cache, by_cache_and_free};
}

void compare(slabscope::test::Stepper& steps) {
  const Counts outside = read(steps, "in no group");
  const Counts inside = read(steps, "in a group");
  SC_EXPECT(outside.by_malloc > 10 && outside.by_cache > 10);
  SC_EXPECT(outside.by_cache <= outside.by_malloc);
  SC_EXPECT(outside.by_cache_and_free <= outside.by_malloc);
  SC_EXPECT(inside.by_malloc == outside.by_malloc);
  SC_EXPECT(inside.by_cache <= 3 * inside.by_malloc);  // a slow path takes hundreds
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  return slabscope::test::count_steps(child, compare,
                                      slabscope::test::object_of(dlsym(RTLD_DEFAULT, "malloc")));
}
