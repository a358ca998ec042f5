// SPDX-License-Identifier: MIT
//
// targets: which scope files there are, and which one the user means.
//
//   $SLABSCOPE_DIR, /run/slabscope, $XDG_RUNTIME_DIR/slabscope, /dev/shm/slabscope-<uid>
//        └─► find_targets() ─► one FoundTarget a file ─► ps | serve
//                               └─► resolve_target("1234" | "x.scope" | "nginx") ─► report | caches
//   /proc/1234/maps ────────────────────┘
//
// A file is identified by device and inode, so that a directory reached by two names counts once.
// The pid inside is information: two containers may both have a pid 1.

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "exporter/base/result.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

struct FoundTarget {
  std::string path;
  FileId file;
  std::optional<TargetInfo> info;  // nothing when `failure` says why
  std::optional<Failure> failure;
};

// What stands where a state would, if the file cannot be read: "not_ready", "corrupt", ….
std::string_view state_of_failure(ErrorCode code);

// The directories that are looked at, in the shim's order, existing or not.
std::vector<std::string> target_directories();

// What is known of a file already, so that it need not be read again; or null.
using KnownTarget = std::function<const TargetInfo*(const std::string& path, FileId id)>;

// All scope files in `directories`, newest process first; unreadable ones at the end.
std::vector<FoundTarget> find_targets(const std::vector<std::string>& directories,
                                      const KnownTarget& known = nullptr);
std::vector<FoundTarget> find_targets();

// TARGET: a pid (the file that it has mapped, or the newest that bears it), the path of a scope
// file, or a command name, or a unique part of one.
Result<TargetInfo> resolve_target(std::string_view text);

// The newest file of that pid that came up at or after `not_before_realtime_ns`.
Result<TargetInfo> newest_of_pid(uint32_t pid, uint64_t not_before_realtime_ns);

}  // namespace slabscope
