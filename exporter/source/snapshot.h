// SPDX-License-Identifier: MIT
//
// Snapshot: everything one scope file said at one moment, as plain values.
//
//   scope file ─attach─► Snapshot ─► metrics | tables | JSON | reports
//
// No shared memory past this line: whoever holds a Snapshot may keep it, copy it and hand it to
// another thread.  Strings shown to people (comm, app, names) are valid UTF-8 without control
// characters; paths (exe, Module::path, TargetInfo::path) are the raw bytes that the file system
// needs, and are cleaned by printable_utf8() where they are printed.
//
// Invariants
//   1. Cache ids are distinct, and caches are sorted by id.                       (attach_test)
//   2. Every LiveObject::stack and every frame list was inside the file.          (attach_test)
//   3. Sums over racing writers may be a little off; the helpers clamp, they never wrap.

#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "diag/abi/layout.h"
#include "exporter/base/saturating.h"

namespace slabscope {

enum class TargetState {
  kRunning,   // its lock is held
  kExited,    // it said goodbye
  kDied,      // it did not: SIGKILL, _exit, a crash
  kReplaced,  // exec put another program in its place, which has a file of its own
};

constexpr std::string_view to_string(TargetState state) {
  switch (state) {
    case TargetState::kRunning:
      return "running";
    case TargetState::kExited:
      return "exited";
    case TargetState::kDied:
      return "died";
    case TargetState::kReplaced:
      return "replaced";
  }
  return "unknown";
}

constexpr std::string_view to_string(abi::TrackMode mode) {
  switch (mode) {
    case abi::TrackMode::kOff:
      return "off";
    case abi::TrackMode::kSampled:
      return "sampled";
    case abi::TrackMode::kAll:
      return "all";
  }
  return "unknown";
}

// A scope file is this, whatever it is called and whatever pid it claims.
struct FileId {
  uint64_t device = 0;
  uint64_t inode = 0;
  // NOLINTNEXTLINE(modernize-use-nullptr): there is no pointer here.
  auto operator<=>(const FileId&) const = default;
};

struct TargetInfo {
  std::string path;  // of the scope file
  FileId file;
  TargetState state = TargetState::kDied;
  bool locked = false;  // somebody has the file mapped, so its counts may still change
  uint32_t pid = 0;     // as the process saw itself
  uint32_t parent_pid = 0;
  uint32_t uid = 0;
  std::string comm;
  std::string app;  // $SLABSCOPE_APP or ""; app_label() finds a name when this is empty
  std::string exe;
  std::string shim_version;
  uint64_t start_realtime_ns = 0;
  uint64_t start_monotonic_ns = 0;
  uint64_t end_monotonic_ns = 0;  // 0: running, or died without saying so
  abi::TrackMode track_mode = abi::TrackMode::kOff;
  uint32_t sample_interval = 0;  // 1 in kAll, 0 in kOff
  uint32_t track_switches = 0;   // changes of these two at run time
  uint32_t heap_ready = 0;
  uint64_t window_base = 0;
  uint64_t window_bytes = 0;
  uint64_t heap_layout = 0;        // address in the process of its abi::HeapLayout; 0: none
  uint64_t read_monotonic_ns = 0;  // CLOCK_MONOTONIC when this snapshot was taken
};

// How long the process has run, or ran; nothing if it died without saying when.
inline std::optional<uint64_t> lifetime_ns(const TargetInfo& target) {
  const bool running = target.state == TargetState::kRunning;
  const uint64_t end = running ? target.read_monotonic_ns : target.end_monotonic_ns;
  if (end == 0) {
    return std::nullopt;
  }
  return end > target.start_monotonic_ns ? end - target.start_monotonic_ns : 0;
}

struct Cache {
  uint32_t id = 0;
  abi::CacheState state = abi::CacheState::kUnused;
  abi::CacheKind kind = abi::CacheKind::kNone;
  uint32_t flags = 0;
  uint32_t object_size = 0;  // 0 for kLarge
  uint32_t align = 0;
  uint32_t slab_size = 0;
  uint32_t objects_per_slab = 0;
  uint32_t parent = 0;
  uint32_t group = 0;
  uint32_t generation = 0;
  uint64_t created_monotonic_ns = 0;
  std::string name;
  std::vector<std::string> aliases;  // the names that a merged cache was created under
  std::string group_name;            // "": of no group
  abi::CacheStats stats{};
  uint64_t allocations = 0;  // over all threads, ended ones included
  uint64_t frees = 0;

  uint64_t active_objects() const { return clamped_difference(allocations, frees); }
  uint64_t objects() const { return saturating_product(stats.slabs, objects_per_slab); }
  uint64_t active_bytes() const {
    return kind == abi::CacheKind::kLarge ? stats.live_bytes
                                          : saturating_product(active_objects(), object_size);
  }
  // Free objects on threads' lists, and free objects in slabs.
  uint64_t thread_free_objects() const {
    return clamped_difference(stats.objects_out, active_objects());
  }
  uint64_t slab_free_objects() const { return clamped_difference(objects(), stats.objects_out); }
  // Empty slabs are on the partial list, so these three and no other add up to stats.slabs.
  uint64_t slabs_full() const { return clamped_difference(stats.slabs, stats.slabs_partial); }
  uint64_t slabs_partial() const {
    return clamped_difference(stats.slabs_partial, stats.slabs_empty);
  }
  uint64_t slabs_empty() const { return stats.slabs_empty; }
  bool ever_used() const { return allocations != 0 || frees != 0; }
  // Its name, with its group's: "malloc-64(worker)".
  std::string label() const { return group == 0 ? name : name + "(" + group_name + ")"; }

  // a - b, or 0 where racing reads (or a hostile file) would make it negative.
  static constexpr uint64_t clamped_difference(uint64_t a, uint64_t b) {
    const uint64_t difference = a - b;
    return static_cast<int64_t>(difference) < 0 ? 0 : difference;
  }
};

// Caches that count apart, each a child of one of malloc's.
struct Group {
  uint32_t number = 0;
  abi::GroupState state = abi::GroupState::kUnused;
  abi::GroupMade made = abi::GroupMade::kByProgram;
  uint32_t generation = 0;
  uint64_t created_monotonic_ns = 0;
  std::string name;
  abi::GroupStats stats{};

  // Its threads are gone, or its name is; its objects are not.
  bool offline() const {
    return state == abi::GroupState::kOffline ||
           (state == abi::GroupState::kLive && made == abi::GroupMade::kByThreadName &&
            stats.threads == 0);
  }
};

struct Thread {
  uint32_t slot = 0;
  abi::ThreadState state = abi::ThreadState::kFree;
  uint32_t tid = 0;
  uint64_t started_monotonic_ns = 0;
  uint64_t generation = 0;
  std::string name;
  uint64_t allocations = 0;  // over all caches; a reused slot counts its earlier threads too
  uint64_t frees = 0;
};

struct Module {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t bias = 0;  // address in the ELF file = pc - bias
  std::string path;
  std::vector<uint8_t> build_id;
  uint32_t loaded_generation = 0;
  uint32_t unloaded_generation = 0;  // 0: still loaded

  bool valid_for(uint32_t stack_generation) const {
    return loaded_generation <= stack_generation &&
           (unloaded_generation == 0 || stack_generation < unloaded_generation);
  }
};

struct Stack {
  uint32_t handle = 0;
  uint32_t generation = 0;  // of the module table when it was stored
  uint64_t live_objects = 0;
  uint64_t live_bytes = 0;
  uint64_t estimated_total_bytes = 0;  // of all that was ever allocated
  double estimated_total_objects = 0;
  uint64_t estimated_live_bytes = 0;
  double estimated_live_objects = 0;
  struct {
    uint32_t epoch = 0;  // of Header::peak_epoch; of another one: nothing has changed since
    uint64_t samples = 0;
    uint64_t estimated_bytes = 0;
    double estimated_objects = 0;
  } peak;
  std::vector<uint64_t> frames;  // return addresses, innermost first
};

struct LiveObject {
  uint64_t address = 0;
  uint64_t size = 0;  // requested bytes
  uint64_t when_monotonic_ns = 0;
  uint32_t stack = 0;     // Stack::handle, 0: none
  uint32_t interval = 0;  // 1: exact, weight 1
  uint16_t cache = 0;     // Cache::id
};

struct Snapshot {
  TargetInfo target;
  abi::ProcessCounters counters{};
  std::vector<Cache> caches;
  std::vector<Group> groups;  // by number
  std::vector<Thread> threads;
  std::vector<Module> modules;      // with Include::kModules
  std::vector<Stack> stacks;        // with Include::kStacks, sorted by handle
  std::vector<LiveObject> objects;  // with Include::kObjects
};

}  // namespace slabscope
