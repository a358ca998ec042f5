// SPDX-License-Identifier: MIT

#include "slab/cache/large.h"

#include <array>

#include "slab/base/bits.h"
#include "slab/base/config.h"
#include "slab/base/due.h"
#include "slab/base/mutex.h"
#include "slab/base/panic.h"
#include "slab/base/stats.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/huge_table.h"
#include "slab/pages/page_heap.h"
#include "slab/pages/page_map.h"
#include "slab/pages/vm.h"

namespace slabscope {
namespace {

constinit Mutex g_huge_mutex;
constinit HugeTable g_huge SC_GUARDED_BY(g_huge_mutex);
constinit std::array<CachedMapping, Config::kHugeCacheEntries> g_cached
    SC_GUARDED_BY(g_huge_mutex){};
constinit size_t g_cached_bytes SC_GUARDED_BY(g_huge_mutex) = 0;
constinit uint32_t g_now_ms = 0;  // of the last decay

constexpr size_t chunks_for(size_t bytes) {
  return (bytes + Config::kChunk - 1) >> Config::kChunkShift;
}
constexpr size_t bytes_of(size_t chunks) {
  return chunks << Config::kChunkShift;
}

Budget* budget_of(unsigned owner) {
  return SC_LIKELY(owner == Config::kLargeId) ? nullptr : g_caches.object_pair(owner)->budget;
}
// Before pages are taken; false: more than the owner may.
[[nodiscard]] bool may_take(unsigned owner, size_t bytes) {
  Budget* budget = budget_of(owner);
  return budget == nullptr || budget->take(bytes);
}
void give_budget(unsigned owner, size_t bytes) {
  Budget* budget = budget_of(owner);
  if (budget != nullptr)
    budget->give(bytes);
}

// A cached mapping that was a little larger than asked for: the limit was asked, and is not again.
void settle(unsigned owner, size_t taken, size_t have) {
  Budget* budget = budget_of(owner);
  if (budget != nullptr)
    budget->add(have - taken);
}

CacheStats& stats_of(unsigned owner) {
  return SC_LIKELY(owner == Config::kLargeId) ? g_caches.stats(Config::kLargeId)
                                              : *g_caches.object_pair(owner)->stats;
}
void count_live(unsigned owner, size_t bytes) {
  stat_add(g_heap_stats->mapped_large_bytes, bytes);
  stat_add(stats_of(owner).live_bytes, bytes);
}
void count_dead(unsigned owner, size_t bytes) {
  stat_sub(g_heap_stats->mapped_large_bytes, bytes);
  stat_sub(stats_of(owner).live_bytes, bytes);
  give_budget(owner, bytes);
}

// The record of the run that starts at `block`, nullptr if its address cannot be a run's start.
Chunk* run_chunk(const void* block) {
  if (reinterpret_cast<uintptr_t>(block) % Config::kChunk != 0)
    return nullptr;
  return g_page_map.find(block);
}
bool is_live_run(const Chunk* chunk) {
  return chunk != nullptr && chunk->kind.load(std::memory_order_acquire) == ChunkKind::kLarge;
}

// ---- runs -----------------------------------------------------------------------------------

LargeBlock run_allocate(size_t bytes, size_t alignment, unsigned owner) {
  bool zeroed = false;
  const size_t count = chunks_for(bytes);
  if (!may_take(owner, bytes_of(count)))
    return {nullptr, false};
  const size_t align_chunks = alignment > Config::kChunk ? alignment >> Config::kChunkShift : 1;
  const size_t first = g_page_heap.allocate(count, align_chunks, &zeroed);
  if (first == PageHeap::kNoRun) {
    give_budget(owner, bytes_of(count));
    return {nullptr, false};
  }
  Chunk* chunk = g_page_map.chunk(first);
  chunk->owner = static_cast<uint16_t>(owner);
  chunk->length = static_cast<uint32_t>(count);
  chunk->record = 0;
  chunk->kind.store(ChunkKind::kLarge, std::memory_order_release);
  g_page_map.set_ids(first, 1, Config::kLargeId);
  count_live(owner, bytes_of(count));
  return {g_page_map.address_of(first), zeroed};
}

void run_release(size_t first, size_t count, unsigned owner,
                 PageHeap::Contents contents = PageHeap::Contents::kData) {
  g_page_map.set_ids(first, 1, 0);
  count_dead(owner, bytes_of(count));
  g_page_heap.release(first, count, contents);
}

// A run's pages change places, which spares the copy and the page faults. Each such run is a
// mapping of its own for the kernel from then on, so that small ones are better copied.
void* run_move(void* block, const Chunk* chunk, size_t bytes) {
  const size_t have = bytes_of(chunk->length);
  if (have < Config::kMoveMin || bytes >= Config::kHugeMin)
    return nullptr;
  const unsigned owner = chunk->owner;
  const LargeBlock fresh = run_allocate(bytes, Config::kChunk, owner);
  if (fresh.address == nullptr)
    return nullptr;
  if (fresh.zeroed)
    g_page_heap.after_fresh(PageHeap::Grown::kForABlock);
  const size_t fresh_first = g_page_map.index_of(fresh.address);
  Chunk* fresh_chunk = g_page_map.chunk(fresh_first);
  if (!vm::move_pages(block, fresh.address, have)) {
    // What cannot be mapped again must not be handed out again: its addresses are lost, nothing
    // else.
    if (vm::map_over(fresh.address, have)) {
      fresh_chunk->kind.store(ChunkKind::kNone, std::memory_order_release);
      run_release(fresh_first, fresh_chunk->length, owner);
    }
    return nullptr;
  }
  fresh_chunk->record = chunk->record;
  const size_t first = g_page_map.index_of(block);
  const size_t count = chunk->length;
  g_page_map.chunk(first)->kind.store(ChunkKind::kNone, std::memory_order_release);
  run_release(first, count, owner, PageHeap::Contents::kZeroes);
  return fresh.address;
}

void* run_resize(void* block, Chunk* chunk, size_t bytes) {
  const size_t first = g_page_map.index_of(block);
  const size_t have = chunk->length;
  const size_t wanted = chunks_for(bytes);
  if (wanted == have)
    return block;
  if (wanted < have) {
    chunk->length = static_cast<uint32_t>(wanted);
    count_dead(chunk->owner, bytes_of(have - wanted));
    g_page_heap.release(first + wanted, have - wanted);
    return block;
  }
  const size_t more = bytes_of(wanted - have);
  if (!may_take(chunk->owner, more))
    return nullptr;
  bool fresh = false;
  if (bytes >= Config::kHugeMin || !g_page_heap.extend(first, have, wanted, &fresh)) {
    give_budget(chunk->owner, more);
    return run_move(block, chunk, bytes);
  }
  chunk->length = static_cast<uint32_t>(wanted);
  count_live(chunk->owner, more);
  // A block that grows is mostly the one that lasts; for one that is new the dirty runs stay, or
  // blocks that come and go would be faulted in again each time (large: 0.13 of glibc's CPU, 0.59).
  if (fresh)
    g_page_heap.after_fresh(PageHeap::Grown::kToLast);
  return block;
}

// ---- mappings -------------------------------------------------------------------------------

// A cached mapping of at least `bytes` and at most a quarter more.
void* cached_take_locked(size_t bytes, size_t* have) SC_REQUIRES(g_huge_mutex) {
  CachedMapping* best = nullptr;
  for (CachedMapping& entry : g_cached) {
    if (entry.address == nullptr || entry.bytes < bytes || entry.bytes - bytes > bytes / 4)
      continue;
    if (best == nullptr || entry.bytes < best->bytes)
      best = &entry;
  }
  if (best == nullptr)
    return nullptr;
  void* address = best->address;
  *have = best->bytes;
  g_cached_bytes -= best->bytes;
  *best = {};
  stat_sub(g_heap_stats->mapped_free_bytes, *have);
  stat_sub(g_heap_stats->free_dirty_bytes, *have);
  return address;
}

bool cached_keep_locked(void* address, size_t bytes) SC_REQUIRES(g_huge_mutex) {
  if (g_cached_bytes + bytes > Config::kHugeCacheBytes)
    return false;
  for (CachedMapping& entry : g_cached) {
    if (entry.address != nullptr)
      continue;
    entry = {address, bytes, __atomic_load_n(&g_now_ms, __ATOMIC_RELAXED)};
    g_cached_bytes += bytes;
    stat_add(g_heap_stats->mapped_free_bytes, bytes);
    stat_add(g_heap_stats->free_dirty_bytes, bytes);
    return true;
  }
  return false;
}

void* map_aligned(size_t bytes, size_t alignment) {
  if (alignment <= vm::kOsPage)
    return vm::map(bytes);
  const size_t padded = bytes + alignment;
  if (padded < bytes)
    return nullptr;
  auto* memory = static_cast<char*>(vm::map(padded));
  if (memory == nullptr)
    return nullptr;
  const size_t before = align_up(reinterpret_cast<uintptr_t>(memory), alignment) -
                        reinterpret_cast<uintptr_t>(memory);
  if (before > 0)
    vm::unmap(memory, before);
  if (alignment > before)
    vm::unmap(memory + before + bytes, alignment - before);
  return memory + before;
}

LargeBlock huge_allocate(size_t bytes, size_t alignment, unsigned owner) {
  size_t have = align_up(bytes, vm::kOsPage);
  if (have < bytes || !may_take(owner, have))
    return {nullptr, false};
  const size_t taken = have;
  void* address = nullptr;
  bool zeroed = false;
  if (alignment <= vm::kOsPage) {
    MutexLock lock(g_huge_mutex);
    address = cached_take_locked(have, &have);
  }
  if (address == nullptr) {
    address = map_aligned(have, alignment);
    zeroed = true;
    if (address == nullptr) {
      give_budget(owner, taken);
      return {nullptr, false};
    }
    stat_add(g_heap_stats->huge_mapped, 1);
  }
  bool entered = false;
  {
    MutexLock lock(g_huge_mutex);
    entered = g_huge.insert(address, have, 0, owner);
  }
  if (!entered) {
    vm::unmap(address, have);
    give_budget(owner, taken);
    return {nullptr, false};
  }
  if (SC_UNLIKELY(have != taken))
    settle(owner, taken, have);
  count_live(owner, have);
  return {address, zeroed};
}

LargeReleased huge_release(void* block) {
  HugeEntry entry{};
  bool cached = false;
  {
    MutexLock lock(g_huge_mutex);
    HugeEntry* found = g_huge.find(block);
    if (found == nullptr)
      return {false, 0, 0};
    entry = *found;
    g_huge.erase(found);
    cached = cached_keep_locked(block, entry.bytes);
  }
  count_dead(entry.owner, entry.bytes);
  if (!cached) {
    vm::unmap(block, entry.bytes);
    stat_add(g_heap_stats->released_bytes, entry.bytes);
  }
  return {true, entry.record, entry.owner};
}

void* huge_resize(void* block, size_t bytes) {
  const size_t wanted = align_up(bytes, vm::kOsPage);
  if (wanted < bytes || wanted < Config::kHugeMin)
    return nullptr;
  // The entry leaves the table while the kernel moves the pages: another thread may be given the
  // old address as soon as they are gone.
  HugeEntry entry{};
  {
    MutexLock lock(g_huge_mutex);
    HugeEntry* found = g_huge.find(block);
    if (found == nullptr)
      return nullptr;
    if (found->bytes == wanted)
      return block;
    if (wanted > found->bytes && !may_take(found->owner, wanted - found->bytes))
      return nullptr;
    entry = *found;
    g_huge.erase(found);
  }
  void* moved = vm::remap(block, entry.bytes, wanted);
  const size_t now = moved == nullptr ? entry.bytes : wanted;
  MutexLock lock(g_huge_mutex);
  // Cannot fail: the table had room for this entry a moment ago, or the loss is a leak, not a
  // fault.
  (void)g_huge.insert(moved == nullptr ? block : moved, now, entry.record, entry.owner);
  if (moved == nullptr) {
    if (wanted > entry.bytes)
      give_budget(entry.owner, wanted - entry.bytes);
    return nullptr;
  }
  if (wanted > entry.bytes) {
    count_live(entry.owner, wanted - entry.bytes);
  } else {
    count_dead(entry.owner, entry.bytes - wanted);
  }
  return moved;
}

}  // namespace

// ---- both -----------------------------------------------------------------------------------

LargeBlock large_allocate(size_t bytes, size_t alignment, unsigned owner) {
  g_caches.need(Config::kLargeId);
  if (bytes >= Config::kHugeMin || alignment >= Config::kHugeMin) {
    return huge_allocate(bytes, alignment, owner);
  }
  return run_allocate(bytes, alignment, owner);
}

size_t large_size(const void* block) {
  const Chunk* chunk = run_chunk(block);
  if (is_live_run(chunk))
    return bytes_of(chunk->length);
  MutexLock lock(g_huge_mutex);
  const HugeEntry* entry = g_huge.find(block);
  return entry == nullptr ? 0 : entry->bytes;
}

LargeReleased large_release(void* block) {
  Chunk* chunk = run_chunk(block);
  if (!is_live_run(chunk))
    return huge_release(block);
  const uint32_t record = chunk->record;
  const uint32_t count = chunk->length;
  const unsigned owner = chunk->owner;
  ChunkKind expected = ChunkKind::kLarge;
  if (!chunk->kind.compare_exchange_strong(expected, ChunkKind::kNone, std::memory_order_acq_rel)) {
    stat_add(g_heap_stats->errors_double_free, 1);
    panic("double free of", block, "two threads at once");
  }
  run_release(g_page_map.index_of(block), count, owner);
  return {true, record, owner};
}

void* large_resize(void* block, size_t bytes) {
  Chunk* chunk = run_chunk(block);
  if (!is_live_run(chunk))
    return huge_resize(block, bytes);
  return bytes <= Config::kSmallMax ? nullptr : run_resize(block, chunk, bytes);
}

uint32_t large_record(const void* block) {
  const Chunk* chunk = run_chunk(block);
  if (is_live_run(chunk))
    return chunk->record;
  MutexLock lock(g_huge_mutex);
  const HugeEntry* entry = g_huge.find(block);
  return entry == nullptr ? 0 : entry->record;
}

void large_set_record(const void* block, uint32_t record) {
  Chunk* chunk = run_chunk(block);
  if (is_live_run(chunk)) {
    chunk->record = record;
    return;
  }
  MutexLock lock(g_huge_mutex);
  HugeEntry* entry = g_huge.find(block);
  if (entry != nullptr)
    entry->record = record;
}

size_t large_decay(uint32_t now_ms, uint32_t decay_ms) {
  __atomic_store_n(&g_now_ms, now_ms, __ATOMIC_RELAXED);
  size_t released = 0;
  for (;;) {
    CachedMapping victim{};
    {
      MutexLock lock(g_huge_mutex);
      if (g_cached_bytes == 0)
        return released;
      for (CachedMapping& entry : g_cached) {
        if (entry.address == nullptr || !is_due(now_ms, entry.freed_ms, decay_ms))
          continue;
        victim = entry;
        g_cached_bytes -= entry.bytes;
        entry = {};
        break;
      }
    }
    if (victim.address == nullptr)
      return released;
    vm::unmap(victim.address, victim.bytes);
    released += victim.bytes;
    stat_sub(g_heap_stats->mapped_free_bytes, victim.bytes);
    stat_sub(g_heap_stats->free_dirty_bytes, victim.bytes);
    stat_add(g_heap_stats->released_bytes, victim.bytes);
    stat_add(g_heap_stats->release_runs, 1);
  }
}

LargeTables large_tables() SC_NO_THREAD_ANALYSIS {
  return {&g_huge, g_cached.data(), static_cast<uint32_t>(g_cached.size())};
}

void large_lock_for_fork() SC_NO_THREAD_ANALYSIS {
  g_huge_mutex.lock();
}
void large_unlock_after_fork() SC_NO_THREAD_ANALYSIS {
  g_huge_mutex.unlock();
}
void large_reset_after_fork() {
  g_huge_mutex.reset_after_fork();
}

}  // namespace slabscope
