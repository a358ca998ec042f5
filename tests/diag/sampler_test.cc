// SPDX-License-Identifier: MIT

#include "diag/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace slabscope::diag {
namespace {

TEST(Sampler, LogarithmIsGoodToOneInABillion) {
  double worst = 0;
  for (double u = 0x1p-53; u <= 1; u *= 1.0009765625) {
    worst = std::max(worst, std::abs(negative_log(u) + std::log(u)) / std::max(1.0, -std::log(u)));
  }
  EXPECT_LT(worst, 1e-9);
  EXPECT_EQ(negative_log(1), 0);
}

TEST(Sampler, SampledProbabilityIsGoodToOneInABillion) {
  double worst = 0;
  for (double x = 1e-12; x < 100; x *= 1.003) {
    const double right = -std::expm1(-x);
    worst = std::max(worst, std::abs(one_minus_exp(x) - right) / right);
  }
  EXPECT_LT(worst, 1e-9);
}

TEST(Sampler, WeightsAreOneWhenAllIsTracked) {
  EXPECT_EQ(sample_weight(1, 1), 1);
  EXPECT_EQ(sample_weight(0, 0), 1);
  EXPECT_EQ(sample_weight(1 << 30, 524288), 1);
  EXPECT_NEAR(sample_weight(524288, 524288), 1 / (1 - std::exp(-1)), 1e-9);
  EXPECT_NEAR(sample_weight(0, 4096), sample_weight(1, 4096), 0);
}

TEST(Sampler, GapsAreExponential) {
  uint64_t state = seed_rng(1234);
  constexpr uint64_t kMean = 524288;
  constexpr int kDraws = 400000;
  double sum = 0;
  double squares = 0;
  int below_median = 0;
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t gap = next_gap(state, kMean);
    ASSERT_GE(gap, 1u);
    const double x = static_cast<double>(gap) / kMean;
    sum += x;
    squares += x * x;
    if (x < std::log(2))
      ++below_median;
  }
  const double mean = sum / kDraws;
  EXPECT_NEAR(mean, 1, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(squares / kDraws - mean * mean, 1, 0.03);
  EXPECT_NEAR(static_cast<double>(below_median) / kDraws, 0.5, 2.5 / std::sqrt(kDraws));
}

// What the allocator does: bytes count down to the next sample; each sample weighs 1/P.
TEST(Sampler, EstimatesAreUnbiasedForEverySize) {
  for (const uint64_t size : {uint64_t{16}, uint64_t{1000}, uint64_t{20000}, uint64_t{100000}}) {
    constexpr uint64_t kInterval = 16384;
    uint64_t state = seed_rng(size);
    uint64_t left = next_gap(state, kInterval);
    const uint64_t objects = 400'000'000 / size + 100'000;
    double estimate = 0;
    uint64_t samples = 0;
    for (uint64_t i = 0; i < objects; ++i) {
      if (left > size) {
        left -= size;
        continue;
      }
      estimate += sample_weight(size, kInterval);
      ++samples;
      left = next_gap(state, kInterval);
    }
    const double error = estimate / static_cast<double>(objects) - 1;
    EXPECT_LT(std::abs(error), 4 / std::sqrt(static_cast<double>(samples))) << size;
  }
}

TEST(Sampler, SeedsOfNeighboursDiffer) {
  EXPECT_NE(seed_rng(0), 0u);
  uint64_t a = seed_rng(1);
  uint64_t b = seed_rng(2);
  EXPECT_NE(next_random(a) >> 32, next_random(b) >> 32);
}

}  // namespace
}  // namespace slabscope::diag
