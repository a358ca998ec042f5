// SPDX-License-Identifier: MIT

#include "slab/cache/record_table.h"

#include <array>
#include <bit>
#include <cstddef>

#include "slab/base/hooks.h"
#include "slab/base/mutex.h"
#include "slab/base/panic.h"
#include "slab/base/sole_thread.h"
#include "slab/base/stats.h"
#include "slab/pages/meta.h"

namespace slabscope {
namespace {

struct UnusedTable {
  UnusedTable* next;
};

// Classes are powers of two of entries, 16 to 2^16; a larger table than asked for keeps its class
// in mind by going back to the smaller one's list.
constexpr unsigned kLeastLog = 4;
constexpr unsigned kClasses = 13;

constinit Mutex g_tables_mutex;
constinit std::array<UnusedTable*, kClasses> g_tables SC_GUARDED_BY(g_tables_mutex){};

unsigned class_of(uint32_t entries) {
  const uint32_t rounded = std::bit_ceil(entries);
  const auto log = static_cast<unsigned>(std::countr_zero(rounded));
  return log < kLeastLog ? 0 : log - kLeastLog;
}

}  // namespace

uint32_t* record_table_new(uint32_t entries) {
  const unsigned wanted = class_of(entries);
  {
    MutexLock lock(g_tables_mutex);
    for (unsigned i = wanted; i < kClasses; ++i) {
      UnusedTable* table = g_tables[i];
      if (table == nullptr)
        continue;
      g_tables[i] = table->next;
      table->next = nullptr;
      return reinterpret_cast<uint32_t*>(table);
    }
  }
  return static_cast<uint32_t*>(meta_allocate(sizeof(uint32_t) << (wanted + kLeastLog)));
}

void record_table_delete(uint32_t* table, uint32_t entries) {
  auto* unused = reinterpret_cast<UnusedTable*>(table);
  MutexLock lock(g_tables_mutex);
  UnusedTable*& list = g_tables[class_of(entries)];
  unused->next = list;
  list = unused;
}

uint32_t take_record(uint32_t& slot, const void* object) {
  const uint32_t record = take_word(slot);
  if (record == 0) {
    stat_add(g_heap_stats->errors_double_free, 1);
    panic("double free of", object, "its record is gone");
  }
  g_hooks.expect_untrack(record);
  return record;
}

void end_record(uint32_t record, const void* object) {
  if (record != kUnrecorded)
    g_hooks.untrack(record, object);
}

void record_tables_lock_for_fork() SC_NO_THREAD_ANALYSIS {
  g_tables_mutex.lock();
}
void record_tables_unlock_after_fork() SC_NO_THREAD_ANALYSIS {
  g_tables_mutex.unlock();
}
void record_tables_reset_after_fork() {
  g_tables_mutex.reset_after_fork();
}

}  // namespace slabscope
