// SPDX-License-Identifier: MIT
//
// Arithmetic that stops at the ends of its range: for sums over what nobody vouches for, and for
// ranges of addresses that begin or end at those of the address space.

#pragma once

#include <algorithm>
#include <cmath>
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

// The whole number next to an estimate: one that an int64 holds too, as formats ask for.
[[nodiscard]] inline uint64_t whole(double value) {
  constexpr double kLargest = 9.2e18;
  return static_cast<uint64_t>(std::llround(std::clamp(value, 0.0, kLargest)));
}

}  // namespace slabscope
