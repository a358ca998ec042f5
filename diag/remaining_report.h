// SPDX-License-Identifier: MIT
//
// remaining_report: what keeps a cache, or a group of them, from being destroyed.
//
//   slabscope: 4711 (server): cache pool is not destroyed: 12 objects of 320 bytes are in use
//     7 objects, the oldest 12.345 s old, from
//       /usr/bin/server+0x12ab
//       /usr/bin/server+0x3f01
//     at 0x7f0a12340140 0x7f0a12340280 …
//     5 objects have no stack on record (SLABSCOPE_TRACK=all or SLAB_STORE_USER records each)
//
// All objects with a stack, of all threads, by stack, oldest first; each is marked in the scope
// file (ObjectRecord::remained). Raw writes and one mapping to sort in; no allocation, no lock.
// Called from: preload's hook, on the thread that wanted to destroy.

#pragma once

#include <cstdint>

#include "diag/object_table.h"
#include "diag/objects_of.h"
#include "diag/scope_file.h"
#include "diag/stack_depot.h"

namespace slabscope::diag {

struct RemainingIn {
  ObjectsOf owner;
  const char* name;
  uint64_t bytes;    // of an object; of a group: in use
  uint64_t objects;  // in use, with a stack or without
  uint64_t threads;  // in the group
};

// Marks; writes to `fd` if it is not negative.
void report_remaining(int fd, ScopeFile& file, const StackDepot& depot, ObjectTable& objects,
                      const RemainingIn& remaining);

}  // namespace slabscope::diag
