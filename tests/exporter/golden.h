// SPDX-License-Identifier: MIT
//
// Texts kept under tests/golden: what a change does to an output is seen in review.

#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace slabscope::testing {

// Compares with tests/golden/NAME; SLABSCOPE_UPDATE_GOLDEN=1 rewrites it.
inline void expect_golden(const std::string& name, const std::string& text) {
  const std::filesystem::path path = std::filesystem::path(SLABSCOPE_GOLDEN) / name;
  if (std::getenv("SLABSCOPE_UPDATE_GOLDEN") != nullptr)
    std::ofstream(path) << text;
  std::ifstream file(path);
  const std::string expected{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(text, expected) << path;
}

}  // namespace slabscope::testing
