// SPDX-License-Identifier: MIT
//
// Arithmetic that stops at the ends of its range: for sums over what nobody vouches for, and for
// ranges of addresses that begin or end at those of the address space.

#pragma once

#include <cstdint>

namespace slabscope {

[[nodiscard]] constexpr uint64_t saturating_sum(uint64_t a, uint64_t b) {
  return a + b < a ? UINT64_MAX : a + b;
}
[[nodiscard]] constexpr uint64_t saturating_difference(uint64_t a, uint64_t b) {
  return a < b ? 0 : a - b;
}
[[nodiscard]] constexpr uint64_t saturating_product(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

}  // namespace slabscope
