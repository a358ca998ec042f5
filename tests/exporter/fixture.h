// SPDX-License-Identifier: MIT
//
// Fixture: a library of tests/exporter/fixtures, loaded, with the addresses it knows about itself.

#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "exporter/analysis/symbolize.h"
#include "tests/exporter/fixtures/places.h"

namespace slabscope::testing {

inline const std::string kFixtures = SLABSCOPE_FIXTURES;

class Scratch {
 public:
  Scratch() {
    std::string name = "/tmp/slabscope-symbolize-XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// What the shim would have recorded about the mapped object around `address`.
inline Module mapped_module(const void* address) {
  struct Search {
    uint64_t address;
    Module module;
  } search{reinterpret_cast<uint64_t>(address), {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto* wanted = static_cast<Search*>(data);
        uint64_t low = UINT64_MAX;
        uint64_t high = 0;
        for (size_t i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type == PT_LOAD) {
            low = std::min<uint64_t>(low, info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
            high = std::max<uint64_t>(
                high, info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz);
          }
        }
        if (wanted->address >= low && wanted->address < high) {
          wanted->module.start = low;
          wanted->module.end = high;
          wanted->module.bias = info->dlpi_addr;
          wanted->module.path = info->dlpi_name[0] != '\0'
                                    ? info->dlpi_name
                                    : std::filesystem::read_symlink("/proc/self/exe").string();
        }
        return 0;
      },
      &search);
  if (const auto file = ElfFile::open(-1, search.module.path); file != nullptr) {
    search.module.build_id = file->build_id();
  }
  return search.module;
}

inline uint64_t number(const void* address) {
  return reinterpret_cast<uint64_t>(address);
}

// A fixture library, loaded, and the module that it is.
class Fixture {
 public:
  explicit Fixture(const std::string& path) : handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    EXPECT_NE(handle_, nullptr) << dlerror();
    auto* function = reinterpret_cast<Places (*)()>(dlsym(handle_, "fixture_places"));
    places_ = function();
    module_ = mapped_module(places_.in_inlined);
  }
  ~Fixture() { dlclose(handle_); }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;

  const Places& places() const { return places_; }
  Module& module() { return module_; }

  std::vector<SymbolFrame> frames(const void* address, const ProcessContext& context = {}) const {
    Symbolizer symbolizer;
    symbolizer.begin_process(std::span(&module_, 1), context);
    return symbolizer.symbolize(number(address), 1);
  }

 private:
  void* handle_;
  Places places_{};
  Module module_;
};

inline std::string library(const std::string& name) {
  return kFixtures + "/lib" + name + ".so";
}

}  // namespace slabscope::testing
