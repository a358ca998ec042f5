// SPDX-License-Identifier: MIT
//
// exit_report: what remains at exit, as plain text, from inside the process.
//
//   slabscope: 4711 (server): 12 objects, 3456 bytes remain
//     objects      bytes  cache
//          10       3200  malloc-320
//   top stacks by live bytes:
//     3200 bytes in 10 objects (sampled; about 52428800 bytes)
//       /usr/bin/server+0x12ab (build id 0123…)
//
// For SLABSCOPE_REPORT=stderr or a path; the tools' reports name functions and lines and say what
// is reachable. Raw writes, no allocation, no lock. Called from: preload's exit handler.

#pragma once

#include <cstdint>

#include "diag/scope_file.h"
#include "diag/stack_depot.h"

namespace slabscope::diag {

// Live objects and bytes of cache `id`, summed over threads by the caller.
struct CacheRemainder {
  uint64_t objects = 0;
  uint64_t bytes = 0;
};
using RemainderOf = CacheRemainder (*)(uint32_t id, void* context);

// "stderr" is descriptor 2; anything else a path, in which %p stands for the pid and %% for %.
// Returns a descriptor or -1; close_report() closes what this opened, never descriptor 2.
[[nodiscard]] int open_report(const char* target);
void close_report(int fd);

// `cache_limit`: one past the highest cache id in use. Returns the objects that remain.
uint64_t write_exit_report(int fd, ScopeFile& file, const StackDepot& depot, uint32_t cache_limit,
                           RemainderOf remainder_of, void* context);

}  // namespace slabscope::diag
