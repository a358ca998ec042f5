// SPDX-License-Identifier: MIT
//
// Record tables: for each slab of a tracked cache, the record number of each of its objects.
//
// All tracked caches share them, by powers of two: what one cache's slabs gave up serves another's,
// also when there is no more memory to be had. Never unmapped. The numbers are those of the table
// of objects (diag/object_table.h). Locks: one leaf lock (above meta's).

#pragma once

#include <cstdint>

namespace slabscope {

// A zeroed table of at least `entries` numbers; nullptr without memory.
[[nodiscard]] uint32_t* record_table_new(uint32_t entries);
// Takes it back; every entry is zero again. `entries` as it was asked for.
void record_table_delete(uint32_t* table, uint32_t entries);

// The number of an object that is tracked by its slab but had no room in the table of objects. An
// object that is not in use has 0.
inline constexpr uint32_t kUnrecorded = UINT32_MAX;

// At the object's free: takes its record's number, which is in `slot`. Panics if another free did.
[[nodiscard]] uint32_t take_record(uint32_t& slot, const void* object);
// And ends the record, before the object can be handed out again.
void end_record(uint32_t record, const void* object);

void record_tables_lock_for_fork();
void record_tables_unlock_after_fork();
void record_tables_reset_after_fork();

}  // namespace slabscope
