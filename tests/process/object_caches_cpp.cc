// SPDX-License-Identifier: MIT
//
// Object caches from C++: slab_cache<T>, which owns, and slab_allocator<T>, for containers.

#include <cstdio>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "slab/slabscope.hpp"
#include "tests/support/check.h"

namespace {

struct Order {
  explicit Order(std::string what) : text(std::move(what)) {
    if (text.empty())
      throw std::invalid_argument("an order of nothing");
  }
  std::string text;
  double amounts[8] = {};
};

void typed_cache() {
  slabscope::slab_cache<Order> orders("orders");
  Order* kept = orders.make("two of these");
  {
    const auto owned = orders.make_unique("one of those");
    SC_EXPECT(orders.stats().active_objects == 2);
    SC_EXPECT(slab_cache_of(owned.get()) == orders.get());
  }
  bool thrown = false;
  try {
    (void)orders.make("");
  } catch (const std::invalid_argument&) {
    thrown = true;
  }
  SC_EXPECT(thrown && orders.stats().active_objects == 1);
  try {
    const slabscope::slab_cache<Order> twice("orders");
    SC_EXPECT(false);
  } catch (const std::system_error& error) {
    SC_EXPECT(error.code() == std::errc::file_exists);
  }
  SC_EXPECT(!orders.destroy());
  orders.dispose(kept);
  SC_EXPECT(orders.destroy());
}

struct Find {
  std::string name;
  uint64_t active = 0;
};

uint64_t active_in(const std::string& prefix) {
  Find find{prefix, 0};
  slab_cache_for_each(
      [](slab_cache* cache, void* context) {
        auto* wanted = static_cast<Find*>(context);
        slab_cache_stats stats{};
        if (std::strncmp(slab_cache_name(cache), wanted->name.c_str(), wanted->name.size()) == 0 &&
            slab_cache_get_stats(cache, &stats) == 0) {
          wanted->active += stats.active_objects;
        }
        return 0;
      },
      &find);
  return find.active;
}

void allocator() {
  using Allocator = slabscope::slab_allocator<std::pair<const int, long>>;
  {
    std::map<int, long, std::less<>, Allocator> map(Allocator("map"));
    for (int i = 0; i < 1000; ++i)
      map[i] = i * 2L;
    SC_EXPECT(active_in("map-") == 1000);
    const auto copy = map;
    SC_EXPECT(copy == map && active_in("map-") == 2000);
    for (int i = 0; i < 1000; i += 2)
      map.erase(i);
    SC_EXPECT(active_in("map-") == 1500);
    const std::vector<int, slabscope::slab_allocator<int>> vector(
        100, 7, slabscope::slab_allocator<int>(Allocator("vector")));
    SC_EXPECT(vector[99] == 7);
  }
  SC_EXPECT(active_in("map-") == 0);
}

}  // namespace

int main() {
  typed_cache();
  allocator();
  std::puts("ok");
  return 0;
}
