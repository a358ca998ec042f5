// SPDX-License-Identifier: MIT
//
// Heapsort: in place, without memory and never slow. For reports, which are written where no
// library's sort is at hand.

#pragma once

#include <cstddef>
#include <utility>

namespace slabscope::diag {

// Orders by before(a, b): a comes first.
template <typename Item, typename Before>
void heap_sort(Item* items, size_t count, Before before) {
  const auto sift = [&](size_t at, size_t end) {
    for (size_t child = 2 * at + 1; child < end; at = child, child = 2 * at + 1) {
      if (child + 1 < end && before(items[child], items[child + 1]))
        ++child;
      if (!before(items[at], items[child]))
        return;
      std::swap(items[at], items[child]);
    }
  };
  for (size_t i = count / 2; i-- > 0;)
    sift(i, count);
  for (size_t end = count; end-- > 1;) {
    std::swap(items[0], items[end]);
    sift(0, end);
  }
}

}  // namespace slabscope::diag
