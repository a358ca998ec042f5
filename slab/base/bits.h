// SPDX-License-Identifier: MIT
//
// Arithmetic on powers of two, and division by an object size without dividing.

#pragma once

#include <cstddef>
#include <cstdint>

namespace slabscope {

// `alignment` is a power of two. align_up wraps to 0 if there is no such value.
constexpr size_t align_up(size_t value, size_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}
constexpr size_t align_down(size_t value, size_t alignment) {
  return value & ~(alignment - 1);
}
constexpr bool is_power_of_two(size_t value) {
  return value != 0 && (value & (value - 1)) == 0;
}

// Floor of log2; undefined for 0.
constexpr unsigned log2_floor(uint64_t value) {
  return 63U - static_cast<unsigned>(__builtin_clzll(value));
}

// Division by a constant known at run time, for numerators n < 2^20 (a slab is at most 1 MiB) and
// divisors 16 <= d < 2^20: floor(n / d) == (n * ceil(2^40 / d)) >> 40, because the error of the
// inverse is below 1, and n * d < 2^40.
class Divider {
 public:
  constexpr Divider() = default;
  constexpr explicit Divider(uint32_t divisor)
      : inverse_(((uint64_t{1} << 40) + divisor - 1) / divisor) {}
  constexpr uint32_t divide(uint32_t numerator) const {
    return static_cast<uint32_t>((numerator * inverse_) >> 40);
  }

 private:
  uint64_t inverse_ = 0;
};

}  // namespace slabscope
