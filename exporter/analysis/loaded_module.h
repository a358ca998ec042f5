// SPDX-License-Identifier: MIT
//
// LoadedModule: a binary as the loader mapped it, read from the memory of the process.
//
// Called from: roots.cc. Every byte is hostile: sizes and addresses are only ever used to read.

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "exporter/analysis/roots.h"
#include "exporter/source/memory_source.h"

namespace slabscope {

struct LoadedModule {
  // Writable segments: data, what is read-only since relocation, and .bss.
  std::vector<RootRange> data;
  uint64_t storage_bytes = 0;   // thread-local, with its alignment
  uint64_t loader_structs = 0;  // r_debug of the loader, which it tells the program alone; or 0
};

// Nothing unless the header of a 64-bit binary lies at `base`.
std::optional<LoadedModule> read_loaded_module(const MemorySource& memory, uint64_t base);

}  // namespace slabscope
