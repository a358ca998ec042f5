// SPDX-License-Identifier: MIT
//
// leak_check: a process's memory in, each live object with its class and its record out.
//
//   ProcessSnapshot ─► HeapImage ─► Roots ─► Reachability ─┐
//   scope file ─► Snapshot (objects, stacks, modules) ─────┴─► LeakCheck ─► report
//
// Records are read after the process went on, so they are a little younger than the memory: an
// object in a tracked slab whose record is gone was freed meanwhile, and what was freed was not
// lost. What ld.so allocated (it keeps pointers where nobody can see them) counts as a root, as it
// does for LeakSanitizer; so does what the shim allocated for itself.

#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "exporter/analysis/heap_image.h"
#include "exporter/analysis/lost_objects.h"
#include "exporter/analysis/roots.h"
#include "exporter/source/process_snapshot.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

enum class LeakClass : uint8_t { kDefinite, kIndirect, kReachable };

constexpr std::string_view to_string(LeakClass leak_class) {
  switch (leak_class) {
    case LeakClass::kDefinite:
      return "definite";
    case LeakClass::kIndirect:
      return "indirect";
    case LeakClass::kReachable:
      return "reachable";
  }
  return "unknown";
}

// Objects that have class, stack and cache in common.
struct LeakGroup {
  LeakClass leak_class = LeakClass::kReachable;
  uint32_t stack = 0;  // handle; 0: none is known
  uint32_t cache = 0;
  uint64_t objects = 0;
  uint64_t bytes = 0;  // as requested; the slot's size where that is not known
  uint64_t smallest = 0;
  uint64_t largest = 0;
  uint64_t oldest_ns = 0;  // when the first of them was allocated; 0: not known
};

struct LeakCheck {
  std::string refused;  // why there was no check; empty: there was
  std::vector<LeakGroup> groups;
  LostObjects lost;  // those of the definite and indirect groups
  // Of each of Snapshot::objects; reachable if it was freed meanwhile.
  std::vector<LeakClass> of_record;
  std::chrono::nanoseconds pause{};
  std::string in_place_reason;  // why the process was read while it stood still; empty: it was not
  uint64_t damaged = 0;         // records of the heap that contradicted themselves
  uint64_t root_bytes = 0;
};

// Checks the memory in `memory` against the records of `snapshot`, which is read afterwards.
// `roots`: what counts as one.
Result<LeakCheck> check_leaks(const ProcessSnapshot& memory, const Snapshot& snapshot,
                              RootSet roots);

}  // namespace slabscope
