// SPDX-License-Identifier: MIT

#include "exporter/base/shim.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace slabscope {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "libslabscope.so";

std::string* find_variable(std::vector<std::string>& environment, const std::string& name) {
  const auto found = std::find_if(environment.begin(), environment.end(),
                                  [&](const auto& entry) { return entry.starts_with(name + "="); });
  return found == environment.end() ? nullptr : &*found;
}

}  // namespace

std::optional<std::string> find_shim() {
  std::error_code error;
  if (const char* chosen = std::getenv("SLABSCOPE_LIB"); chosen != nullptr && *chosen != '\0') {
    return fs::is_regular_file(chosen, error) ? std::optional(fs::absolute(chosen).string())
                                              : std::nullopt;
  }
  const fs::path own = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* place :
       {".", "../lib", "../lib/x86_64-linux-gnu", "../lib/aarch64-linux-gnu", "../lib64"}) {
    const fs::path candidate = own / place / kName;
    if (fs::is_regular_file(candidate, error)) {
      return fs::canonical(candidate, error).string();
    }
  }
  return std::nullopt;
}

std::vector<std::string> preload_environment(
    std::vector<std::string> environment, const std::string& shim,
    const std::vector<std::pair<std::string, std::string>>& settings) {
  const std::string name = "LD_PRELOAD";
  if (std::string* preload = find_variable(environment, name)) {
    preload->insert(name.size() + 1, preload->size() == name.size() + 1 ? shim : shim + ":");
  } else {
    environment.push_back(name + "=" + shim);
  }
  for (const auto& [key, value] : settings) {
    std::string* entry = find_variable(environment, key);
    if (entry == nullptr) {
      entry = &environment.emplace_back();
    }
    entry->assign(key).append("=").append(value);
  }
  return environment;
}

}  // namespace slabscope
