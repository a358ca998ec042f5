// SPDX-License-Identifier: MIT
//
// attach: a scope file, opened, checked and copied into a Snapshot.
//
//   path ─► ScopeReader ─check header and sections─► copy ─► Snapshot
//
// Every byte of the file is hostile: it is read with pread (a truncated file is a short read, not a
// SIGBUS), checked against the size of the file, and only then used.  The cost follows what the
// file really holds, never what it claims: `used` is clamped, holes are skipped.
//
// The state is that of the file's lock and header alone; only targets.h, which sees all files, can
// tell kReplaced from kDied.

#pragma once

#include <string>

#include "exporter/base/result.h"
#include "exporter/source/scope_reader.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

// What to copy besides the header, the caches and the threads.
enum class Include : unsigned {
  kCounters = 0,
  kModules = 1,
  kStacks = 2,
  kObjects = 4,
  kEverything = 7,
};
constexpr Include operator|(Include a, Include b) {
  return static_cast<Include>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr bool includes(Include set, Include part) {
  return (static_cast<unsigned>(set) & static_cast<unsigned>(part)) != 0;
}

Result<Snapshot> attach(const std::string& path, Include include = Include::kCounters);

// The header alone: who, when, in which state.
Result<TargetInfo> attach_info(const std::string& path);

// A file whose header and sections passed the checks, for readers that go through a section of it
// without keeping what they see.
struct OpenScope {
  ScopeReader reader;
  abi::Header header;
  TargetInfo info;
};
Result<OpenScope> open_scope(const std::string& path);

}  // namespace slabscope
