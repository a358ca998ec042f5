// SPDX-License-Identifier: MIT
//
// shim: where libslabscope.so is, and the environment that loads it.

#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace slabscope {

// $SLABSCOPE_LIB, else beside this program or in the lib directories next to it. An absolute path.
std::optional<std::string> find_shim();

// `environment` (NAME=VALUE) with the shim in front of LD_PRELOAD and `settings` in place.
std::vector<std::string> preload_environment(
    std::vector<std::string> environment, const std::string& shim,
    const std::vector<std::pair<std::string, std::string>>& settings);

}  // namespace slabscope
