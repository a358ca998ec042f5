// SPDX-License-Identifier: MIT
//
// Options: what the environment asks of the shim, read once, before the first allocation.
//
// preload/options.def is the one table. Nothing below this file reads the environment. The strings
// point into the environment as it was at start; they are read during start-up alone, but for
// `report`, which is copied.

#pragma once

#include <cstddef>
#include <cstdint>

#include "diag/abi/layout.h"
#include "slab/base/config.h"

namespace slabscope {

enum class GroupBy : uint8_t { kNone, kThread };

struct Options {
  abi::TrackMode track = abi::TrackMode::kSampled;
  uint32_t sample_interval = Config::kSampleInterval;  // bytes
  bool track_named = false;                            // SLABSCOPE_TRACK was given and understood
  uint32_t decay_ms = 1000;
  uint32_t release_delay_ms = 0;
  GroupBy group_by = GroupBy::kNone;
  uint32_t watcher = 0;  // pid of the tool that wants to look at the end; 0: none
  const char* debug = nullptr;
  const char* dir = nullptr;
  const char* app = nullptr;
  const char* xdg_runtime_dir = nullptr;  // not ours, but where the scope file may lie
  char report[256] = "auto";
};

// Fills `options` from an environment block (null: none). What is unknown or malformed is reported
// on descriptor 2, a line each, and left at its default.
void parse_options(const char* const* environment, Options& options);

}  // namespace slabscope
