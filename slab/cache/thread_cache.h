// SPDX-License-Identifier: MIT
//
// ThreadCache: the objects one thread may hand out without asking anybody.
//
//   malloc ─► bin[id].head ─pop─► caller                free ─push─► bin[id].head
//                │ empty                                  │ frees reaches trip
//                ▼ refill_slow()                          ▼ free_slow()
//             reserve ◄── CURRENT slab ◄── KmemCache    reserve, put() grouped by slab
//
//   slot    │ Bin[id]: head, trip │ … │ ThreadCache │ …      private, 64 KiB, touched bit by bit
//           │◄─────────── kBinToCounters ───────────►│
//   shared  │ header │ CounterPair[id]: allocs, frees │ …      in the scope file
//
// The exact counts double as the list's length: length == frees - allocs + bias, where bias changes
// only on the slow paths. So a free costs one increment and one compare, and the numbers that a
// reader outside sees are exact at every moment. A thread without a cache points at a block of
// zeroes: its lists are empty and its trips 0, so the fast paths need no test for it.
//
// Sampling: when the next tracked allocation is R allocations away, the slow path leaves L objects
// in the list and allows T more frees with L + T <= R. Pops are at most L + T, so the slow path is
// reached no later than the sample. R at least halves from visit to visit; at R == 0 the list is
// empty and the next malloc is the sample. An id whose trip stays 0 is always on the slow path.
//
// Invariants
//   1. Only the owning thread touches a bin; nothing here is shared but the counters, which it
//      alone writes.
//   2. length(bin) == frees - allocs + bias at each visit, if the shared counters were left alone.
//      If not, lists are flushed early or late: walks are bounded and end at null.
//   3. frees < trip on the fast path.
// Locks: none here. The slow calls take KmemCache's and below it the page heap's.
// Called from: slab/heap.h only. Never throws, safe after fork in the child.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "slab/base/compiler.h"
#include "slab/base/config.h"
#include "slab/base/hooks.h"
#include "slab/base/stats.h"
#include "slab/cache/kmem_cache.h"
#include "slab/cache/size_class.h"
#include "slab/pages/page_map.h"

namespace slabscope {

// One thread's free list of one cache: what the fast paths touch.
struct Bin {
  FreeObject* head;
  uint64_t trip;  // the value of `frees` at which free() goes to the slow path
};
static_assert(sizeof(Bin) == 16 && sizeof(CounterPair) == 16);

SC_INLINE CounterPair* counters_of(Bin* bin) {
  return reinterpret_cast<CounterPair*>(reinterpret_cast<char*>(bin) + Config::kBinToCounters);
}

// The slot of the calling thread: its Bin[]. Never null.
extern thread_local constinit char* t_bins SC_TLS;
// Where in it malloc's bins start: at t_bins, or at the run of ids of the thread's group (group.h).
extern thread_local constinit char* t_malloc_bins SC_TLS;
// Where object caches' bins are: at t_bins, or nowhere while the thread is in a group (group.h).
extern thread_local constinit char* t_object_bins SC_TLS;

SC_INLINE Bin* bin_at(char* bins, size_t offset) {
  return reinterpret_cast<Bin*>(bins + offset);
}

// Pops from the bin, or nullptr if its list is empty.
SC_INLINE void* pop_fast(Bin* bin) {
  FreeObject* object = bin->head;
  if (SC_UNLIKELY(object == nullptr))
    return nullptr;
  bin->head = object->next;
  count_up(counters_of(bin)->allocs);
  return object;
}

// Pushes `object` if the list has room and it is not there already, as the one freed last.
SC_INLINE bool push_listed(Bin* bin, void* object) {
  CounterPair* counters = counters_of(bin);
  const uint64_t frees = counted(counters->frees);
  if (SC_UNLIKELY(frees >= bin->trip))
    return false;
  auto* free_object = static_cast<FreeObject*>(object);
  FreeObject* head = bin->head;
  if (SC_UNLIKELY(head == free_object))
    return false;
  count_to(counters->frees, frees + 1);
  // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): null lies in no window: see chunk_limit().
  free_object->next = head;
  bin->head = free_object;
  return true;
}

// Pushes `object` if its id's list has room and it is not there already, as the one freed last;
// false: the slow path must look at it.
SC_INLINE bool push_fast(void* object) {
  const size_t index = g_page_map.index_of(object);
  if (SC_UNLIKELY(index >= g_page_map.chunk_limit()))
    return false;
  return push_listed(bin_at(t_bins, g_page_map.id_at(index) * sizeof(Bin)), object);
}

// What the slow paths keep of a thread and cache.
struct BinSlow {
  FreeObject* reserve;  // free objects beside the list, of any slab
  uint16_t reserve_count;
  uint8_t tracked_batch : 4;  // how many tracked objects are taken from a slab at once
  uint8_t thinning : 4;       // of the draw of sample_at: see ThreadCache::thinning_
  uint8_t flushed_at;         // `allocs` (modulo 2^8) when the list was last too long
  uint8_t cap;                // objects the list may hold; 0: the bin was never used
  bool crowded;    // other threads take slabs of this cache too: the thread keeps its own
  uint16_t slack;  // frees it may take beyond that before the next visit
  Slab* current;   // CURRENT for this thread, or nullptr
  uint64_t bias;
  uint64_t sample_at;     // the value of `allocs` at which an allocation is tracked
  uint32_t missed_at;     // allocs + frees (modulo 2^32) when the list last ran dry or full
  uint32_t scanned_at;    // the same at the last look for idle lists
  Slab* tracked_current;  // of the tracked twin
  FreeObject* tracked_reserve;
};
static_assert(sizeof(BinSlow) == 64 && Config::kBinMaxObjects <= UINT8_MAX);

// Which groups a thread has entered; all zero: none.
struct EnteredGroups {
  uint16_t base;    // first id of the current one's run; 0: malloc's own caches
  uint16_t depth;   // how often it entered and has not left
  uint8_t current;  // number of that one
  uint8_t home;     // number of the group it is in by its name; 0: none
  uint8_t looks;    // at that name, see look_due()
  bool at_limit;    // the callback of a limit is at work
  uint8_t inner[Config::kGroupNesting];  // numbers, outermost first; 0: malloc's own
};

class ThreadCache {
 public:
  // The cache of the calling thread; nullptr if it has none yet, or no longer.
  static ThreadCache* current();

  // An object of cache `id` for a request of `requested` bytes, when the fast path had none.
  // nullptr without memory.
  [[nodiscard]] void* allocate_slow(unsigned id, size_t requested);
  // Frees an object of the plain cache `id` when the fast path did not.
  void free_slow(unsigned id, void* object);
  // Frees an object past the list, straight to its slab: one of a tracked cache, whose record (see
  // take_record()) ends here, or of a cache that is going away (kUnrecorded).
  void free_tracked(KmemCache* cache, Slab* slab, void* object, uint32_t record);

  // The caller's stack, as a handle; nothing is tracked meanwhile, or counts in a group.
  uint32_t capture();
  // Whether a large block of `size` bytes is to be tracked, and the interval it was drawn with.
  [[nodiscard]] bool sample_large(size_t size, uint32_t* interval);
  // One more or one less large block; no list is involved.
  void count_large_alloc(unsigned owner, size_t size);
  void count_large_free(unsigned owner);

  // Does what was asked of all threads since the last visit.
  SC_NOINLINE void heed_requests();

  // Everything back to the slabs: when the thread ends, and for malloc_trim().
  void flush_all();

  // What samples are to be drawn with: mean bytes between two; 1: all; 0: none.
  uint32_t sample_interval() const { return static_cast<uint32_t>(sampling_); }
  bool is_paced() const { return sample_interval() == Config::kSampleInterval; }

  // While set, nothing is tracked: the thread is capturing a stack, or no owner can be told.
  bool busy() const { return busy_; }

  char* bins() { return reinterpret_cast<char*>(this) - kOffset; }

  // Where a slot's ThreadCache lies: over bins whose ids are never given out.
  static constexpr size_t kFirstHiddenId = 112;
  static constexpr size_t kOffset = kFirstHiddenId * sizeof(Bin);
  static constexpr size_t kHiddenIds = 8;

  // ---- for groups (group.h) ----
  EnteredGroups& groups() { return groups_; }
  const EnteredGroups& groups() const { return groups_; }
  // What the thread allocates from now on comes from the run at `base`; 0: malloc's own. By the
  // owner.
  void set_group_base(unsigned base);
  // What the thread keeps of `count` ids from `first` on goes back to their slabs.
  SC_COLD void flush_ids(unsigned first, unsigned count);

  // ---- for programs' own caches (object_cache.h) ----
  // Memory for the slow-path records of their ids is there, or is made now; false without memory.
  [[nodiscard]] bool need_object_bins();
  // Everything this thread holds of `id` goes back, and the bin with it. By the owner, or when the
  // slot has none.
  SC_COLD void drain(unsigned id);
  // Frees an object of a group's plain child when the fast path did not.
  SC_COLD void free_in_group(KmemCache* cache, Slab* slab, void* object);

 private:
  friend class ThreadRegistry;
  friend struct HeapLayoutWriter;  // preload/: describes the heap to tools

  static constexpr unsigned kOpenChains = 8;
  static constexpr unsigned kAtOnce = 32;  // objects whose slabs give_back() asks for together
  static constexpr uint32_t kListedLookedAt = 16;  // objects that a free on the slow path compares
  static constexpr uint8_t kTrackedBatch = 8;  // if all are tracked; samples are taken one by one

  Bin* bin(unsigned id) { return bin_at(bins(), id * sizeof(Bin)); }
  BinSlow& slow(unsigned id) {
    return SC_LIKELY(id < Config::kLargeId) ? slow_[id] : object_slow_[id - Config::kFirstObjectId];
  }
  // Whether the bin was ever used.
  bool has_bin(unsigned id) {
    return (id < Config::kLargeId || (id >= Config::kFirstObjectId && object_slow_ != nullptr)) &&
           slow(id).cap != 0;
  }
  uint64_t draw_distance(unsigned id, size_t size);
  void draw_large();
  void open_sampling();
  void start_sampling(unsigned id);
  void adapt_sampling();
  void pace_sampling();
  void pace_by_cost(uint64_t took_ns);
  SC_NOINLINE void relax_sampling(uint32_t now_ms);
  SC_NOINLINE void drain_requested();
  unsigned id_limit() const;  // one past the last id that may have a bin
  void forget_lists();
  uint64_t length(unsigned id);
  void need_bin(unsigned id);
  void rearm(unsigned id);
  void shorten(unsigned id, uint64_t keep);
  uint32_t objects_within(unsigned id, size_t bytes, uint32_t most) const;
  uint32_t longest_list(unsigned id) const;
  uint32_t operations(unsigned id);
  void missed(unsigned id);
  bool only_frees(unsigned id);
  void refill(unsigned id, uint32_t wanted);
  void move_from_reserve(unsigned id, uint32_t wanted);
  void* allocate_tracked(unsigned id, size_t requested);
  FreeObject* take_tracked(unsigned id, Slab** slab);
  void check_not_listed(unsigned id, const FreeObject* object);
  void flush_list(unsigned id, uint32_t count);
  void flush_reserve(unsigned id);
  uint64_t give_back(KmemCache* cache, Slab* mine, FreeObject* list, uint64_t limit);
  void flush_bin(unsigned id);
  void flush_tracked(unsigned id);
  static void leave_current(KmemCache* cache, Slab*& current);
  void flush_lists();
  void heed_if_asked();
  void visit();

  BinSlow* slow_;
  BinSlow* object_slow_;    // from kFirstObjectId on; nullptr until the first
  ThreadCache* next_free_;  // in the registry's list
  uint64_t rng_;
  uint64_t large_countdown_;  // bytes until a large block is tracked
  uint32_t number_;           // of the slot
  uint32_t visits_;           // since the last look at the clock
  uint32_t last_scan_ms_;
  uint32_t ended_ms_;     // when its thread ended
  uint32_t heeded_;       // of g_requests, so far
  uint32_t drains_;       // of g_drain_requests, so far
  uint32_t flushes_;      // of g_flush_requests, so far
  uint32_t paced_ms_;     // when paced_samples_ was last 0
  uint64_t sampling_;     // of g_sampling, as last heard
  uint64_t large_taken_;  // bytes of large blocks since one was freed, or since the last tick
  bool used_;             // the slot has ever had a thread: its counters have a page
  bool warm_;             // without a thread, with lists
  bool opened_;           // the slot's counters may be written
  bool busy_;
  bool inside_;             // a slow path is at work: after a fork the lists may be in between
  uint8_t thinning_;        // new draws are made with the interval times 2 to this power
  uint8_t large_thinning_;  // ... and that of large_countdown_ was
  uint8_t paced_samples_;   // some counted more than once: see pace_by_cost()
  EnteredGroups groups_;
};
static_assert(sizeof(ThreadCache) <= ThreadCache::kHiddenIds * sizeof(Bin));
static_assert(Config::kLargeId < ThreadCache::kFirstHiddenId);
static_assert(ThreadCache::kFirstHiddenId + ThreadCache::kHiddenIds == Config::kFirstObjectId);

// ---- what is asked of all threads, at their next visit (thread_requests.cc) ----

// To look for bins to drain (ObjectPair::draining).
void request_drain();
// To give everything on their lists back.
void request_flush();
// To hear of set_sampling().
void request_sampling();

// ---- which allocations are tracked (thread_sampling.cc) ----

// To draw samples with another interval; in the calling thread too. Objects that are tracked stay
// so. Between a call and a thread's next visit, at most a list's length of its allocations of each
// cache is drawn by neither interval.
void set_sampling(uint32_t interval);
uint32_t sampling();

}  // namespace slabscope
