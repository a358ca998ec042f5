// SPDX-License-Identifier: MIT

#include "slab/cache/thread_registry.h"

#include "slab/base/bits.h"
#include "slab/base/clock.h"
#include "slab/base/due.h"
#include "slab/base/sys.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/group.h"
#include "slab/cache/large.h"
#include "slab/pages/meta.h"
#include "slab/pages/page_heap.h"
#include "slab/pages/vm.h"

namespace slabscope {
namespace {

// What a thread without a cache points at: bins and counters that are zero and never written. Only
// its few pages that are read ever exist, as the kernel's zero page.
alignas(4096) constinit char g_no_bins[Config::kBinToCounters + Config::kSlotBytes] = {};

enum class ThreadLife : uint8_t { kNew, kStarting, kRunning, kEnded };
constinit thread_local ThreadLife t_life SC_TLS = ThreadLife::kNew;
constinit thread_local char* t_own_bins SC_TLS = nullptr;  // t_bins, while own mode hides them

// Which of a thread's own allocations is sampled first must differ between threads and runs.
uint64_t seed_for(const ThreadCache* cache) {
  const auto stack = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  uint64_t seed = reinterpret_cast<uintptr_t>(cache) ^ (monotonic_ns() << 20) ^ (stack << 13);
  seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9;  // splitmix64's mixer
  seed = (seed ^ (seed >> 27)) * 0x94d049bb133111eb;
  return (seed ^ (seed >> 31)) | 1;
}

}  // namespace

constinit thread_local char* t_bins SC_TLS = g_no_bins;
constinit thread_local char* t_malloc_bins SC_TLS = g_no_bins;
constinit thread_local char* t_object_bins SC_TLS = g_no_bins;
constinit ThreadRegistry g_threads;

ThreadCache* ThreadCache::current() {
  char* bins = t_bins;
  return bins == g_no_bins ? nullptr : reinterpret_cast<ThreadCache*>(bins + kOffset);
}

void ThreadCache::set_group_base(unsigned base) {
  groups_.base = static_cast<uint16_t>(base);
  if (t_bins != bins())
    return;  // own mode hides them
  t_malloc_bins = bins() + base * sizeof(Bin);
  t_object_bins = base == 0 ? bins() : g_no_bins;
}

// ---- slots ----------------------------------------------------------------------------------

// From now on the thread's fast paths find nothing.
void ThreadRegistry::hide_bins() {
  t_bins = g_no_bins;
  t_malloc_bins = g_no_bins;
  t_object_bins = g_no_bins;
}

ThreadCache* ThreadRegistry::cache_of(unsigned number) const {
  char* slot = blocks_[number / Config::kSlotsPerBlock] +
               number % Config::kSlotsPerBlock * Config::kSlotBytes;
  return reinterpret_cast<ThreadCache*>(slot + ThreadCache::kOffset);
}

bool ThreadRegistry::add_block_locked() {
  if (block_count_ == Config::kMaxBlocks)
    return false;
  const size_t slow_bytes = kSlowStride * Config::kSlotsPerBlock;
  char* block = static_cast<char*>(vm::map(2 * Config::kBlockBytes + slow_bytes));
  if (block == nullptr)
    return false;
  if (!g_hooks.map_counters(block_count_, block + Config::kBlockBytes)) {
    // Private memory is there already: exact inside, unseen outside.
    stat_add(g_heap_stats->dropped_threads, Config::kSlotsPerBlock);
  }
  blocks_[block_count_] = block;
  __atomic_store_n(&block_count_, block_count_ + 1, __ATOMIC_RELEASE);
  return true;
}

// A slot that was never used.
ThreadCache* ThreadRegistry::slot_locked(unsigned number) {
  if (number / Config::kSlotsPerBlock >= block_count_ && !add_block_locked())
    return nullptr;
  ThreadCache* cache = cache_of(number);
  cache->slow_ = reinterpret_cast<BinSlow*>(blocks_[number / Config::kSlotsPerBlock] +
                                            2 * Config::kBlockBytes +
                                            number % Config::kSlotsPerBlock * kSlowStride);
  cache->number_ = number;
  return cache;
}

ThreadCache* ThreadRegistry::open_locked(ThreadCache* cache) {
  void* counters = cache->bins() + Config::kBlockBytes;
  if (!g_hooks.slot_opened(cache->number_, counters)) {
    // No room to be seen in: private counters, exact inside and unseen outside.
    if (!vm::map_over(counters, Config::kSlotBytes))
      return nullptr;
    stat_add(g_heap_stats->dropped_threads, 1);
  }
  for (unsigned id = kFirstCounterPageId; id < g_caches.limit(); id += kCountersPerPage) {
    if (!counters_present_locked(cache, id))
      return nullptr;
  }
  __atomic_store_n(&cache->used_, true, __ATOMIC_RELEASE);  // total() asks without the lock
  cache->rng_ = seed_for(cache);
  cache->open_sampling();
  cache->last_scan_ms_ = coarse_monotonic_ms();
  cache->opened_ = true;
  return cache;
}

ThreadCache* ThreadRegistry::current_or_start() {
  ThreadCache* cache = ThreadCache::current();
  return SC_LIKELY(cache != nullptr) ? cache : start_slow();
}

bool ThreadRegistry::own_mode() {
  return t_own_bins != nullptr;
}

void ThreadRegistry::set_own_mode(bool on) {
  if (on && ThreadCache::current() != nullptr) {
    t_own_bins = t_bins;
    hide_bins();
  } else if (!on && t_own_bins != nullptr) {
    t_bins = t_own_bins;
    t_own_bins = nullptr;
    ThreadCache* cache = ThreadCache::current();
    cache->set_group_base(cache->groups_.base);
  }
}

ThreadCache* ThreadRegistry::start_slow() {
  if (t_own_bins != nullptr) {
    return reinterpret_cast<ThreadCache*>(t_own_bins + ThreadCache::kOffset);
  }
  if (t_life != ThreadLife::kNew)
    return nullptr;  // ended, or the start itself allocates
  t_life = ThreadLife::kStarting;
  ThreadCache* cache = nullptr;
  {
    MutexLock lock(mutex_);
    if (!booted_) {
      booted_ = true;
      g_page_heap.prepare();
      if (slab_boot != nullptr)
        slab_boot(g_hooks);
      g_caches.need(Config::kLargeId);
    }
    cache = free_;
    if (cache != nullptr) {
      free_ = cache->next_free_;
      if (cache->warm_)
        --warm_;
      cache->warm_ = false;
    } else {
      const unsigned number = slots_ == 0 ? 1 : slots_;  // slot 0 is the orphans'
      cache = slot_locked(number);
      if (cache != nullptr)
        __atomic_store_n(&slots_, number + 1, __ATOMIC_RELEASE);
    }
    if (cache != nullptr && open_locked(cache) == nullptr) {
      stat_add(g_heap_stats->dropped_threads, 1);
      cache->next_free_ = free_;
      free_ = cache;
      cache = nullptr;
    }
  }
  if (cache == nullptr) {
    g_hooks.event({HeapEvent::Kind::kThreadsFull, 0, 0, nullptr});
    t_life = ThreadLife::kEnded;  // served as an orphan from now on
    return nullptr;
  }
  t_bins = cache->bins();
  cache->set_group_base(0);
  t_life = ThreadLife::kRunning;
  g_hooks.thread_started();
  return cache;
}

void ThreadRegistry::end() {
  set_own_mode(false);
  ThreadCache* cache = ThreadCache::current();
  if (cache == nullptr)
    return;
  cache->heed_requests();
  g_groups.leave_all(*cache);
  hide_bins();
  t_life = ThreadLife::kEnded;
  const auto now_ms = coarse_monotonic_ms();
  MutexLock lock(mutex_);
  cache->opened_ = false;
  cache->ended_ms_ = now_ms;
  cache->warm_ = true;
  if (++warm_ > Config::kWarmCaches)
    reclaim_locked(cache);
  g_hooks.slot_closed(cache->bins() + Config::kBlockBytes);
  cache->next_free_ = free_;
  free_ = cache;
}

void ThreadRegistry::reclaim_locked(ThreadCache* cache) {
  cache->flush_all();
  cache->warm_ = false;
  --warm_;
  stat_add(g_heap_stats->thread_caches_reclaimed, 1);
}

void ThreadRegistry::flush_ended(uint32_t now_ms, uint32_t decay_ms) {
  MutexLock lock(mutex_);
  if (warm_ == 0)
    return;
  for (ThreadCache* cache = free_; cache != nullptr; cache = cache->next_free_) {
    if (cache->warm_ && is_due(now_ms, cache->ended_ms_, decay_ms))
      reclaim_locked(cache);
  }
}

ThreadCache* ThreadRegistry::lock_orphans() {
  orphan_mutex_.lock();
  ThreadCache* cache = nullptr;
  {
    MutexLock lock(mutex_);
    if (block_count_ > 0 || add_block_locked())
      cache = slot_locked(0);
    if (cache != nullptr && !cache->opened_ && open_locked(cache) == nullptr)
      cache = nullptr;
    if (cache != nullptr && slots_ == 0)
      __atomic_store_n(&slots_, 1U, __ATOMIC_RELEASE);
  }
  if (cache == nullptr) {
    orphan_mutex_.unlock();
    return nullptr;
  }
  cache->busy_ = true;
  return cache;
}

CounterPair ThreadRegistry::total(unsigned id) {
  CounterPair sum{};
  const unsigned slots = slot_count();
  for (unsigned number = 0; number < slots; ++number) {
    ThreadCache* cache = cache_of(number);
    if (!__atomic_load_n(&cache->used_, __ATOMIC_ACQUIRE))
      continue;  // its counters may have no page, and none to be had
    const CounterPair* counters = counters_of(cache->bin(id));
    sum.allocs += __atomic_load_n(&counters->allocs, __ATOMIC_RELAXED);
    sum.frees += __atomic_load_n(&counters->frees, __ATOMIC_RELAXED);
  }
  return sum;
}

// ---- programs' own caches -------------------------------------------------------------------

// The page of a slot's counters that `id` is in may be read and written from now on. Where the file
// has no room it becomes private: exact inside, unseen outside.
bool ThreadRegistry::counters_present_locked(ThreadCache* cache, unsigned id) {
  CounterPair* counters = counters_of(cache->bin(id));
  if (g_hooks.counters_needed(counters))
    return true;
  const uintptr_t page = align_down(reinterpret_cast<uintptr_t>(counters), vm::kOsPage);
  return vm::map_over(reinterpret_cast<void*>(page), vm::kOsPage);
}

bool ThreadRegistry::prepare_counters(unsigned id) {
  if (id < kFirstCounterPageId)
    return true;  // in the page that each slot has anyway
  MutexLock lock(mutex_);
  for (unsigned number = 0; number < slots_; ++number) {
    ThreadCache* cache = cache_of(number);
    if (cache->used_ && !counters_present_locked(cache, id))
      return false;
  }
  return true;
}

// The slot counts as ended to those who look from outside, and is never handed out.
CounterPair* ThreadRegistry::ledger_of(unsigned id) {
  MutexLock lock(mutex_);
  if (ledger_ == nullptr) {
    const unsigned number = slots_ == 0 ? 1 : slots_;
    ThreadCache* cache = slot_locked(number);
    if (cache == nullptr || open_locked(cache) == nullptr)
      return nullptr;
    g_hooks.slot_closed(cache->bins() + Config::kBlockBytes);
    cache->opened_ = false;
    ledger_ = cache;
    __atomic_store_n(&slots_, number + 1, __ATOMIC_RELEASE);
  }
  return counters_of(ledger_->bin(id));
}

void ThreadRegistry::reset_counters(unsigned id) {
  const unsigned slots = slot_count();
  for (unsigned number = 0; number < slots; ++number) {
    ThreadCache* cache = cache_of(number);
    if (!__atomic_load_n(&cache->used_, __ATOMIC_ACQUIRE))
      continue;
    CounterPair* counters = counters_of(cache->bin(id));
    __atomic_store_n(&counters->allocs, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&counters->frees, 0, __ATOMIC_RELAXED);
  }
}

uint32_t ThreadRegistry::count_bins(unsigned id) {
  uint32_t count = 0;
  for (unsigned number = 0; number < slot_count(); ++number)
    count += cache_of(number)->has_bin(id) ? 1U : 0U;
  return count;
}

void ThreadRegistry::drain(unsigned id) {
  ThreadCache* mine = ThreadCache::current();
  if (mine != nullptr)
    mine->drain(id);
  MutexLock orphans(orphan_mutex_);
  MutexLock lock(mutex_);
  if (slots_ == 0)
    return;
  cache_of(0)->drain(id);
  for (ThreadCache* cache = free_; cache != nullptr; cache = cache->next_free_)
    cache->drain(id);
}

// ---- fork -----------------------------------------------------------------------------------

void ThreadRegistry::lock_for_fork() {
  orphan_mutex_.lock();
  mutex_.lock();
}

void ThreadRegistry::unlock_after_fork() {
  mutex_.unlock();
  orphan_mutex_.unlock();
}

void ThreadRegistry::reset_after_fork() SC_NO_THREAD_ANALYSIS {
  mutex_.reset_after_fork();
  orphan_mutex_.reset_after_fork();
  char* bins = t_own_bins != nullptr ? t_own_bins : t_bins;
  const auto* mine = reinterpret_cast<const ThreadCache*>(bins + ThreadCache::kOffset);
  free_ = nullptr;
  warm_ = 0;
  for (unsigned number = slots_; number-- > 1;) {
    ThreadCache* cache = cache_of(number);
    if (cache == mine || cache == ledger_)
      continue;
    if (cache->inside_) {
      cache->forget_lists();
    }
    cache->busy_ = false;
    cache->opened_ = false;
    cache->groups_ = {};
    cache->warm_ = true;
    ++warm_;
    cache->next_free_ = free_;
    free_ = cache;
  }
}

}  // namespace slabscope
