// SPDX-License-Identifier: MIT
//
// Hooks: what the allocator asks of whoever watches it. The only way from slab/ up.
//
//   slab's slow paths ──► g_hooks.* ──► preload/init.cc ──► diag (scope file, stacks, tracking)
//
// Without a watcher (unit tests) the defaults below hold: private counters, nothing tracked. A
// program that links slab/ with a watcher defines slab_boot(), which is called once, before the
// first allocation, and fills in what it wants to take over.
//
// Every hook is called without a lock of slab/ held, except where it says otherwise. A hook may
// allocate from the heap it watches only where it says so.

#pragma once

#include <cstddef>
#include <cstdint>

#include "slab/base/compiler.h"
#include "slab/base/stats.h"

namespace slabscope {

struct CacheInfo {
  unsigned id;
  uint32_t object_size;  // 0 for large blocks
  uint32_t slab_bytes;
  uint32_t objects_per_slab;
  const char* name;  // valid during the call
  // Of a program's own cache; malloc's have the defaults.
  uint32_t align = 16;
  uint32_t flags = 0;       // as given to slab_cache_create()
  uint32_t generation = 0;  // how often the id was reused
  uint32_t parent = 0;      // of an alias: the id of the cache whose objects it hands out
  // Of a group's child: `parent` is its root's id, and this the group's number.
  uint32_t group = 0;
};

// Where a program's own cache stands, as seen from outside.
enum class CacheLife : uint8_t {
  kFree,      // its id is not in use
  kNew,       // is being made; its name is taken
  kLive,      // serves
  kDying,     // is being destroyed, which may yet be refused
  kZombie,    // destroyed by name; objects of it are still in use
  kRetiring,  // destroyed; waits for threads to let go of free memory on their lists
};

// A destruction that was refused because of objects in use.
struct RefusedDestroy {
  unsigned id;
  const char* name;
  uint32_t object_size;
  uint64_t objects;
};

// What is told to whoever writes a journal, beside the states of caches.
struct HeapEvent {
  enum class Kind : uint8_t {
    kShrunk,       // value: slabs of `cache` given back, because the program asked
    kOutOfMemory,  // value: bytes asked for
    kThreadsFull,  // a thread got no slot of its own
    kMisuse,       // value: an address; the process ends now, perhaps with locks held
  };
  Kind kind;
  unsigned cache;  // 0: none
  uint64_t value;
  const char* what;  // of a misuse; else nullptr
};

enum class GroupMade : uint8_t { kByProgram, kByThreadName };

struct GroupInfo {
  unsigned number;      // from 1
  const char* name;     // valid during the call
  unsigned first_id;    // of its run of kGroupIds
  unsigned generation;  // how often the number was reused
  GroupMade made;
};

// Where a group stands, as seen from outside.
enum class GroupLife : uint8_t {
  kFree,      // its number is not in use
  kLive,      // may be entered
  kDying,     // is being destroyed, which may yet be refused
  kOffline,   // destroyed by name; objects of it are still in use
  kRetiring,  // destroyed; waits for threads to let go of free memory on their lists
};

// A group whose destruction was refused, because objects of it were in use or threads in it.
struct RefusedGroup {
  unsigned number;
  unsigned first_id;
  const char* name;
  uint64_t objects;
  uint64_t bytes;
  uint64_t threads;
};

struct Hooks {
  // A cache is about to be used for the first time: where its statistics live from now on, zeroed.
  // For a program's own cache nullptr will do: nobody outside sees them then.
  // Called under the lock of the cache table, or of object_cache.h; must not allocate.
  CacheStats* (*cache_created)(const CacheInfo& info);
  // A program's own cache changed its state. Likewise.
  void (*cache_changed)(unsigned id, CacheLife life);
  // To be told to the user, with the stacks of all that remains.
  void (*destroy_refused)(const RefusedDestroy& refused);
  // Under any lock; must not allocate.
  void (*event)(const HeapEvent& event);

  // A group is made: where its numbers live from now on, zeroed; nullptr: nobody outside sees them.
  // Under the lock of group.h, as the next one; must not allocate.
  GroupStats* (*group_created)(const GroupInfo& info);
  void (*group_changed)(unsigned number, GroupLife life);
  // To be told to the user, with the stacks of all that remains.
  void (*group_destroy_refused)(const RefusedGroup& refused);
  // The calling thread's groups go by its name, and it may have a new one. May allocate.
  void (*thread_renamed)();

  // Maps storage that outlives the process over the kBlockBytes at `at` for the counters of thread
  // slots [block * kSlotsPerBlock, ...). False: private memory stays there. Under the thread
  // registry's lock, as the next two; must not allocate.
  bool (*map_counters)(unsigned block, void* at);
  // Slot `number`, whose counter half lies at `counters`, gets a thread. False: the storage is full
  // and the slot must not be touched.
  bool (*slot_opened)(unsigned number, void* counters);
  void (*slot_closed)(void* counters);
  // The counters at `pair` are about to be used for the first time. False: as above.
  bool (*counters_needed)(CounterPair* pair);

  // The calling thread has its cache from now on: ask to be called when it ends. May allocate.
  void (*thread_started)();

  // How many allocations of `object_size` bytes from now the next one to be tracked is, counting
  // it: 1 = the next one. kNever: none. 0: each one (and the thread keeps no free list). `interval`
  // is what set_sampling() said last, as far as the thread has heard.
  uint64_t (*sample_distance)(uint64_t* rng, size_t object_size, uint32_t interval);
  // The same for large blocks: in bytes.
  uint64_t (*sample_bytes)(uint64_t* rng, uint32_t interval);
  // The caller's stack, as a handle. May allocate: slab/ does not track what is allocated
  // meanwhile.
  uint32_t (*capture)();
  // An object is tracked from now on, drawn with `interval` (1: as all are). Returns its record's
  // number, 0 if there was no room.
  uint32_t (*track)(const void* object, size_t requested, size_t object_size, unsigned cache,
                    uint32_t stack, uint32_t interval);
  void (*untrack)(uint32_t record, const void* object);
  // An untrack() of this record follows soon: its memory may come nearer meanwhile.
  void (*expect_untrack)(uint32_t record);
  // The object now holds `requested` bytes, perhaps at another address. Returns its record's number
  // from now on (0: there was no room).
  uint32_t (*retrack)(uint32_t record, const void* object, size_t requested);

  // Who allocated the tracked objects of a program's own cache: lines of Linux's alloc_calls. The
  // length of it all, as snprintf; 0: there are none.
  size_t (*allocation_places)(unsigned cache, char* text, size_t size);
  // Where the object of that record was allocated, as text: the length of it all, as snprintf; 0 if
  // that is not known. Under any lock; must not allocate.
  size_t (*allocation_place)(uint32_t record, char* text, size_t size);

  // Every kVisitsPerTick slow-path visits of a thread, and when it has taken much at once. The time
  // is the heap's: it wraps.
  void (*tick)(uint32_t now_ms);
  // A thread at its slow path, with its lists in order, found that g_bell was rung.
  void (*rung)();

  // Frees a block that another allocator returned, or answers its usable size; false or 0 if it
  // cannot be one.
  bool (*foreign_free)(void* block);
  size_t (*foreign_size)(void* block);
};

inline constexpr uint64_t kNever = UINT64_MAX / 2;

extern constinit Hooks g_hooks;

// How somebody outside makes himself heard: `word` may change at any time, and Hooks::rung() is
// called by threads' next visits to the slow path until `heard` is the same.
struct Bell {
  const uint32_t* word;
  uint32_t heard;

  bool rung() const {
    return __atomic_load_n(__atomic_load_n(&word, __ATOMIC_RELAXED), __ATOMIC_RELAXED) !=
           __atomic_load_n(&heard, __ATOMIC_RELAXED);
  }
};
extern constinit Bell g_bell;

// Defined by the program that watches, or not at all.
SC_WEAK void slab_boot(Hooks& hooks);

}  // namespace slabscope
