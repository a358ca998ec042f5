// SPDX-License-Identifier: MIT
//
// allocation_places: who allocated the objects of a cache, as Linux's alloc_calls says it.
//
//        60 server+0x12ab age=12/340/1021 pid=4711
//         3 libz.so.1+0x3f01 age=9 pid=4711
//
// A line a place, most objects first: the innermost frame outside our library, by its module's file
// name and the address in it, which is a return address (addr2line wants one less). Ages in
// milliseconds: the least, the mean and the most, or one if they are the same.
//
// One mapping to sort in; no allocation, no lock. Objects that come or go meanwhile may be missing.
// Called from: preload's hooks.

#pragma once

#include <cstddef>
#include <cstdint>

#include "diag/object_table.h"
#include "diag/scope_file.h"
#include "diag/stack_depot.h"

namespace slabscope::diag {

// Both write at most `size` bytes, a NUL included, and return the length of it all.
size_t write_allocation_places(ScopeFile& file, const StackDepot& depot, const ObjectTable& objects,
                               uint32_t cache, char* text, size_t size);
// Of one object: "server+0x12ab". 0: it has no stack.
size_t write_allocation_place(ScopeFile& file, const StackDepot& depot, const ObjectTable& objects,
                              uint32_t index, char* text, size_t size);

}  // namespace slabscope::diag
