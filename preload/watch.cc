// SPDX-License-Identifier: MIT

#include "preload/watch.h"

#include "diag/backtrace.h"
#include "diag/sampler.h"
#include "diag/table_pages.h"
#include "diag/text.h"
#include "preload/foreign.h"
#include "preload/heap_layout.h"
#include "slab/base/clock.h"
#include "slab/base/sole_thread.h"
#include "slab/base/sys.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/thread_registry.h"
#include "slab/pages/meta.h"
#include "slab/pages/page_map.h"
#include "slab/pages/vm.h"

namespace slabscope {
namespace {

// ---- what slab's statistics are, outside ----------------------------------------------------

static_assert(sizeof(CacheStats) == sizeof(abi::CacheStats));
static_assert(offsetof(CacheStats, live_bytes) == offsetof(abi::CacheStats, live_bytes));
static_assert(offsetof(CacheStats, objects_out) == offsetof(abi::CacheStats, objects_out));
#define SC_SAME_FIELD(field) \
  static_assert(offsetof(HeapStats, field) == offsetof(abi::ProcessCounters, field))
SC_SAME_FIELD(mapped_slab_bytes);
SC_SAME_FIELD(mapped_large_bytes);
SC_SAME_FIELD(mapped_free_bytes);
SC_SAME_FIELD(mapped_metadata_bytes);
SC_SAME_FIELD(free_dirty_bytes);
SC_SAME_FIELD(released_bytes);
SC_SAME_FIELD(release_runs);
SC_SAME_FIELD(segments);
SC_SAME_FIELD(huge_mapped);
SC_SAME_FIELD(failures_no_memory);
SC_SAME_FIELD(failures_too_large);
SC_SAME_FIELD(errors_double_free);
SC_SAME_FIELD(errors_invalid_free);
SC_SAME_FIELD(foreign_frees);
SC_SAME_FIELD(thread_caches_reclaimed);
SC_SAME_FIELD(door_visits);
SC_SAME_FIELD(dropped_threads);
SC_SAME_FIELD(lock_waits);
SC_SAME_FIELD(lock_sleeps);
#undef SC_SAME_FIELD
static_assert(abi::kMaxCaches == Config::kMaxCaches);
static_assert(abi::kThreadSlotBytes == Config::kSlotBytes);
static_assert(abi::kThreadSlotsPerBlock == Config::kSlotsPerBlock);
static_assert(abi::kMaxThreads == Config::kMaxBlocks * Config::kSlotsPerBlock);
static_assert(offsetof(abi::ThreadSlot, counters) == Config::kCountersOffset);

constinit CacheStats g_unseen_stats{};  // of a cache whose record has no room in the file

// The high-water mark of a section whose records are opened under one lock.
void raise_used(abi::SectionIndex section, uint64_t used) {
  uint64_t& mark = g_watch.file.section(section).used;
  if (mark < used)
    __atomic_store_n(&mark, used, __ATOMIC_RELAXED);
}

CacheStats* cache_created(const CacheInfo& info) {
  abi::CacheRecord& record = g_watch.file.caches()[info.id];
  if (!g_watch.file.ensure(&record, sizeof(record)))
    return info.id < Config::kFirstObjectId ? &g_unseen_stats : nullptr;
  // A child is of its root's kind, and has its name.
  const unsigned root = info.group != 0 ? info.parent : info.id;
  const auto kind = root == Config::kLargeId              ? abi::CacheKind::kLarge
                    : root == Config::kOwnId              ? abi::CacheKind::kOwn
                    : info.group == 0 && info.parent != 0 ? abi::CacheKind::kAlias
                    : root >= Config::kFirstObjectId      ? abi::CacheKind::kObject
                                                          : abi::CacheKind::kMalloc;
  record.stats = {};
  record.kind = static_cast<uint32_t>(kind);
  record.flags = info.flags;
  record.generation = info.generation;
  record.parent = info.parent;
  record.object_size = info.object_size;
  record.align = info.align;
  record.slab_size = info.slab_bytes;
  record.objects_per_slab = info.objects_per_slab;
  record.created_monotonic_ns = monotonic_ns();
  record.group = info.group;
  diag::copy_text(record.name, sizeof(record.name),
                  info.group != 0 ? g_watch.file.caches()[info.parent].name : info.name);
  __atomic_store_n(&record.state, static_cast<uint32_t>(abi::CacheState::kLive), __ATOMIC_RELEASE);
  raise_used(abi::kSectionCaches, info.id + 1U);
  if (kind == abi::CacheKind::kObject && info.group == 0)
    watch_event(abi::EventKind::kCacheCreated, info.id);
  watch_refresh();
  return reinterpret_cast<CacheStats*>(&record.stats);
}

bool map_counters(unsigned block, void* at) {
  return g_watch.file.map_thread_block(block, at);
}

bool slot_opened(unsigned number, void* counters) {
  auto* slot = static_cast<abi::ThreadSlot*>(counters);
  if (!g_watch.file.ensure_slot(slot))
    return false;
  slot->tid = own_tid();
  slot->started_monotonic_ns = monotonic_ns();
  ++slot->generation;
  __atomic_store_n(&slot->state, static_cast<uint32_t>(abi::ThreadState::kLive), __ATOMIC_RELEASE);
  raise_used(abi::kSectionThreads, number + 1U);
  watch_refresh();
  return true;
}

void slot_closed(void* counters) {
  auto* slot = static_cast<abi::ThreadSlot*>(counters);
  __atomic_store_n(&slot->state, static_cast<uint32_t>(abi::ThreadState::kEnded), __ATOMIC_RELEASE);
}

bool counters_needed(CounterPair* pair) {
  return g_watch.file.ensure(pair, sizeof(*pair));
}

// ---- which allocations are tracked ----------------------------------------------------------

// Steps to the next one that is tracked, which is one in `mean` of them.
uint64_t next_tracked(uint64_t* rng, uint32_t interval, double mean) {
  if (interval == 0)
    return kNever;
  return interval == 1 ? 0 : diag::next_gap(*rng, mean);
}

// Objects until a Poisson process over bytes hits one: geometric with P = 1 - exp(-size/interval),
// which is what the floor of an exponential with that mean is.
uint64_t sample_distance(uint64_t* rng, size_t object_size, uint32_t interval) {
  return next_tracked(rng, interval,
                      static_cast<double>(interval) / static_cast<double>(object_size));
}

uint64_t sample_bytes(uint64_t* rng, uint32_t interval) {
  return next_tracked(rng, interval, interval);
}

// Frames between the program and capture(): the hook, the slow path, malloc or operator new. The
// tools leave out what lies in this library, so one too few is harmless and one too many is not.
constexpr unsigned kOwnFrames = 1;

// Unwind tables may make the program this part larger than its heap does.
constexpr uint64_t kTablesShare = 64;

uint32_t capture() {
  g_watch.objects.expect_add();
  uintptr_t frames[abi::kMaxFrames];
  const diag::NamedStack stack = diag::capture_named(frames, abi::kMaxFrames, kOwnFrames);
  if (SC_LIKELY(stack.walk.name != 0))
    return stack.walk.name;
  if (stack.count == 0)
    return 0;
  bool is_new = false;
  const uint32_t handle =
      g_watch.depot.insert(frames, stack.count, g_watch.modules.generation(), &is_new);
  if (is_new) {
    diag::allow_table_bytes(heap_bytes_in_use() / kTablesShare);
    g_watch.modules.note_stack(frames, stack.count);
    g_watch.depot.set_generation(handle, g_watch.modules.generation());
  } else if (handle != 0 && sampling() == 1) {
    diag::name_stack(stack, handle);  // it was here before, and may be again
  }
  return handle;
}

uint32_t track(const void* object, size_t requested, size_t object_size, unsigned cache,
               uint32_t stack, uint32_t interval) {
  add_relaxed(g_watch.file.counters().sampled_allocations, 1);
  if (SC_UNLIKELY(g_watch.file.header()->window_bytes == 0))
    watch_refresh();  // the first block: its address shall lie in a window that readers know
  if (interval != 1) {
    // Objects are drawn by the size of their class; readers weigh them by the size that was asked
    // for. Scaling the interval alike keeps the probability that they compute the true one.
    const double scaled = static_cast<double>(interval) *
                          static_cast<double>(requested == 0 ? 1 : requested) /
                          static_cast<double>(object_size);
    interval = scaled < 2 ? 2 : static_cast<uint32_t>(scaled);
  }
  return g_watch.objects.add(reinterpret_cast<uintptr_t>(object), requested, stack,
                             static_cast<uint16_t>(cache), interval);
}

void untrack(uint32_t record, const void*) {
  g_watch.objects.remove(record);
}

void expect_untrack(uint32_t record) {
  g_watch.objects.expect_remove(record);
}

uint32_t retrack(uint32_t record, const void* object, size_t requested) {
  const abi::ObjectRecord* known = g_watch.objects.find(record);
  if (known == nullptr || known->address == reinterpret_cast<uintptr_t>(object)) {
    g_watch.objects.resize(record, requested);
    return record;
  }
  const abi::ObjectRecord old = *known;
  g_watch.objects.remove(record);
  return g_watch.objects.add(reinterpret_cast<uintptr_t>(object), requested, old.stack, old.cache,
                             old.interval);
}

// ---- time -----------------------------------------------------------------------------------

void tick(uint32_t now_ms) {
  watch_refresh();
  watch_peak(now_ms);
}

}  // namespace

constinit Options g_options;
constinit Watch g_watch;

void watch_open() {
  clock_init();
  const Options& options = g_options;
  const uint32_t interval = options.track == abi::TrackMode::kAll       ? 1
                            : options.track == abi::TrackMode::kSampled ? options.sample_interval
                                                                        : 0;
  const bool shared = g_watch.file.open({.directory = options.dir,
                                         .xdg_runtime_dir = options.xdg_runtime_dir,
                                         .app = options.app,
                                         .mode = options.track,
                                         .interval = interval});
  if (!g_watch.file.ready())
    return;
  g_watch.events.init(g_watch.file);
  g_watch.peak.init(g_watch.file, g_watch.depot);
  set_sampling(interval);
  if (shared)
    (void)g_watch.file.remove_stale_sometimes();
  g_watch.modules.init(g_watch.file);
  g_watch.depot.init(g_watch.file);
  (void)g_watch.objects.init(g_watch.file, g_watch.depot);
  g_watch.file.header()->heap_layout = heap_layout_publish();
  g_heap_stats = reinterpret_cast<HeapStats*>(&g_watch.file.counters());
}

void watch_install(Hooks& hooks) {
  hooks.foreign_free = foreign_free;
  hooks.foreign_size = foreign_size;
  if (!g_watch.file.ready())
    return;  // no memory even for private numbers: a plain allocator
  hooks.cache_created = cache_created;
  watch_install_caches(hooks);
  watch_install_events(hooks);
  watch_install_requests(hooks);
  watch_install_groups(hooks);
  hooks.map_counters = map_counters;
  hooks.slot_opened = slot_opened;
  hooks.slot_closed = slot_closed;
  hooks.counters_needed = counters_needed;
  hooks.sample_distance = sample_distance;
  hooks.sample_bytes = sample_bytes;
  hooks.capture = capture;
  hooks.track = track;
  hooks.untrack = untrack;
  hooks.expect_untrack = expect_untrack;
  hooks.retrack = retrack;
  hooks.tick = tick;
}

void watch_refresh() {
  abi::Header* header = g_watch.file.header();
  if (header->window_bytes == 0 && g_page_map.bytes() != 0) {
    __atomic_store_n(&header->window_base, g_page_map.base(), __ATOMIC_RELAXED);
    __atomic_store_n(&header->window_bytes, g_page_map.bytes(), __ATOMIC_RELAXED);
    __atomic_store_n(&header->heap_ready, 1U, __ATOMIC_RELEASE);
  }
  stat_set(header->counters.mapped_metadata_bytes, meta_mapped_bytes());
  const abi::Section& depot = header->sections[abi::kSectionDepot];
  const abi::Section& objects = header->sections[abi::kSectionObjects];
  stat_set(header->counters.mapped_stacks_bytes, stat_get(depot.used) * depot.record_bytes +
                                                     stat_get(objects.used) * objects.record_bytes);
}

Remaining remaining_in(unsigned id) {
  if (id == Config::kOwnId || !g_caches.ready(id))
    return {};
  const CounterPair total = g_threads.total(id);
  const uint64_t live = total.allocs - total.frees;
  return {live, g_caches.has_slabs(id) ? live * g_caches.plain(id)->object_size()
                                       : stat_get(g_caches.stats(id).live_bytes)};
}

Remaining watch_remaining() {
  Remaining sum{};
  for (unsigned id = Config::kFirstMallocId; id < g_caches.limit(); ++id) {
    const Remaining left = remaining_in(id);
    sum.objects += left.objects;
    sum.bytes += left.bytes;
  }
  stat_set(g_watch.file.counters().remaining_objects, sum.objects);
  stat_set(g_watch.file.counters().remaining_bytes, sum.bytes);
  return sum;
}

void watch_after_fork() {
  if (!g_watch.file.ready())
    return;
  g_watch.modules.reset_after_fork();
  g_watch.events.reset_after_fork();
  if (g_watch.file.child_detach() == diag::ForkKept::kNoObjects) {
    g_watch.objects.forget();
    g_watch.depot.forget_live();
  }
  // Not before: up to here what is written there is the parent's.
  watch_forget_requests();
  watch_forget_peak();
  if (g_watch.file.child_reopen())
    (void)g_watch.file.remove_stale_sometimes();  // a server may fork for months and start nothing
}

}  // namespace slabscope
