// SPDX-License-Identifier: MIT
//
// sampler: distances between samples, and what a sample stands for.
//
// Samples form a Poisson process over the bytes allocated: gaps are exponential with mean
// `interval`, so an object of s bytes is taken with P = 1 - exp(-s / interval) and weighs 1 / P.
// Both need a logarithm and an exponential; libm is not linked, so they are here, good to 1e-9.
// Called from: preload/ and stack_depot.cc. No state but the caller's, no locks, no rounding mode.

#pragma once

#include <bit>
#include <cstdint>

namespace slabscope::diag {

// A well-mixed, non-zero state from any seed (a thread id, an address, a clock).
constexpr uint64_t seed_rng(uint64_t seed) {
  seed += 0x9e3779b97f4a7c15;  // splitmix64
  seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9;
  seed = (seed ^ (seed >> 27)) * 0x94d049bb133111eb;
  seed ^= seed >> 31;
  return seed == 0 ? 1 : seed;
}

// xorshift64*: 2^64 - 1 states, none of them 0; the high bits are the good ones.
constexpr uint64_t next_random(uint64_t& state) {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545f4914f6cdd1d;
}

// -ln(u) for u in (0, 1]: u = m * 2^e with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh((m-1)/(m+1)).
constexpr double negative_log(double u) {
  const uint64_t bits = std::bit_cast<uint64_t>(u);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0x000fffffffffffff) | 0x3ff0000000000000);
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    ++exponent;
  }
  const double z = (mantissa - 1) / (mantissa + 1);
  const double z2 = z * z;  // at most 0.0295, so the first term left out is below 1e-12
  const double series =
      1 + z2 * (1.0 / 3 + z2 * (1.0 / 5 + z2 * (1.0 / 7 + z2 * (1.0 / 9 + z2 * (1.0 / 11)))));
  return -(2 * z * series + exponent * 0.6931471805599453);
}

// 1 - exp(-x) for x >= 0, without cancellation for small x.
constexpr double one_minus_exp(double x) {
  if (x > 40)
    return 1;
  if (x < 0.03125) {
    return x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5))));
  }
  // exp(-x) = exp(-x / 2^k)^(2^k), with x / 2^k small enough for five terms.
  int squarings = 0;
  double r = x;
  while (r >= 0.03125) {
    r /= 2;
    ++squarings;
  }
  double e = 1 - r * (1 - r / 2 * (1 - r / 3 * (1 - r / 4 * (1 - r / 5 * (1 - r / 6)))));
  for (; squarings > 0; --squarings)
    e *= e;
  return 1 - e;
}

// The steps to the next sample: exponential with mean `mean`, rounded up, so at least 1.
constexpr uint64_t next_gap(uint64_t& state, double mean) {
  const double u = static_cast<double>((next_random(state) >> 11) + 1) * 0x1p-53;  // (0, 1]
  return 1 + static_cast<uint64_t>(negative_log(u) * mean);
}

// How many objects one tracked object of `size` bytes stands for. Intervals 0 and 1 mean "all are
// tracked": exactly 1.
constexpr double sample_weight(uint64_t size, uint32_t interval) {
  if (interval <= 1)
    return 1;
  if (size == 0)
    size = 1;  // it is drawn as one byte
  return 1 / one_minus_exp(static_cast<double>(size) / interval);
}

}  // namespace slabscope::diag
