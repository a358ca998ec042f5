// SPDX-License-Identifier: MIT
//
// process_info: what /proc adds to a scope file, for a process that lives.
//
// The pid in a scope file is a claim, and another pid namespace may mean another process by it; so
// every answer is given only when the process that /proc shows under that pid has the file mapped.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "exporter/source/snapshot.h"

namespace slabscope {

// How the names of scope files end.
inline constexpr std::string_view kScopeSuffix = ".scope";

// True when /proc/PID/maps shows the target's scope file.
bool is_mapped_by_its_pid(const TargetInfo& target);

struct MappedFile {
  std::string path;  // there; here it may mean another file
  FileId file;
};
// The scope files that /proc/PID/maps shows. Empty if there is no such process, or it may not be
// looked at.
std::vector<MappedFile> scope_files_mapped_by(uint32_t pid);

// Resident bytes of the target's heap window. Nothing when /proc does not say.
std::optional<uint64_t> resident_heap_bytes(const TargetInfo& target);

// What a process belongs to, for dashboards: $SLABSCOPE_APP, else its systemd service or the name
// of its container or machine, else its comm. Never a pid, and never an id that changes with every
// deployment.
std::string app_label(const TargetInfo& target);

// The part of app_label() that reads /proc/PID/cgroup, given its text; "" when it names nothing.
std::string app_from_cgroup(std::string_view text);

// The part of resident_heap_bytes() that reads /proc/PID/smaps, given its text. `mapped` is set
// when the file `id` occurs in it.
struct SmapsSum {
  uint64_t resident_bytes = 0;
  bool has_file = false;
};
SmapsSum sum_smaps(std::string_view text, FileId id, uint64_t base, uint64_t bytes);

}  // namespace slabscope
