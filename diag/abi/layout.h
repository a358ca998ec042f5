// SPDX-License-Identifier: MIT
//
// The scope file: every byte that the shim and its readers agree on.
//
//   0        ┌───────────────────────────────┐
//            │ Header   (one OS page)        │  magic, version, who, end state, process counters
//            ├───────────────────────────────┤
//            │ CacheRecord[kMaxCaches]       │  one entry a cache id; record 0 is never used
//            ├───────────────────────────────┤
//            │ ModuleRecord[kMaxModules]     │  what was mapped, to name the frames of the dead
//            ├───────────────────────────────┤
//            │ strings                       │  NUL-terminated, named by offset; offset 0 is ""
//            ├───────────────────────────────┤
//            │ GroupRecord[kMaxGroups]       │  by number; record 0 is never used
//            ├───────────────────────────────┤
//            │ EventRecord[kMaxEvents]       │  a ring of what happened to caches
//            ├───────────────────────────────┤
//            │ PeakRecord[2]                 │  the caches at the high-water mark, by turns
//            ├───────────────────────────────┤
//            │ depot: u32 buckets[], records │  every distinct stack once, with its counts
//            ├───────────────────────────────┤
//            │ ObjectRecord[kMaxObjects]     │  the tracked objects that are live now
//            ├───────────────────────────────┤
//            │ ThreadSlot[kMaxThreads]       │  per thread and cache: allocs, frees
//            └───────────────────────────────┘
//
// The file is sparse: its size is that of the last section's end from the start, its cost is the
// pages that were written.  A hole reads as zeroes, and zero means "unused" in every record here.
//
// Invariants
//   1. Offsets, never pointers; fixed-width fields; every u64 is 8-byte aligned.  (static_asserts)
//   2. A counter has one writer, or is added to atomically; readers load each u64 once, relaxed.
//   3. A record with a `state` or `address` field is valid once that field, stored last with
//      release, is non-zero.
//   4. Nothing in the file is trusted: the shim keeps its own truth privately, and a reader checks
//      every offset and count against the size of the file before use.
// Live objects of cache C = sum over all thread slots (in use or retired) of allocs[C] - frees[C].
// Single sums are taken modulo 2^64: one thread's difference may be negative, the sum is not.
// Versions: a reader supports kVersion and kVersion - 1; new fields go at the end of a record or
// into reserved words.  See docs/abi.md.

#pragma once

#include <cstddef>
#include <cstdint>

namespace slabscope::abi {

inline constexpr uint64_t kMagic = 0x45504f4353424c53;  // "SLBSCOPE" read as little-endian bytes
inline constexpr uint32_t kVersion = 1;

inline constexpr uint32_t kPageBytes = 4096;
inline constexpr uint32_t kMaxCaches = 4032;  // cache ids 1..4031; id 0 means "ask the slow path"
inline constexpr uint32_t kMaxModules = 2048;
inline constexpr uint32_t kMaxFrames = 64;      // frames kept of one stack, innermost first
inline constexpr uint32_t kMaxThreads = 16384;  // slots; slot 0 belongs to the process
inline constexpr uint32_t kMaxObjects = 16u << 20;
inline constexpr uint32_t kDepotBuckets = 1u << 16;
inline constexpr uint32_t kMaxGroups = 64;        // numbers below; 0: no group
inline constexpr uint32_t kMaxEvents = 1024;      // kept; older ones are overwritten
inline constexpr uint32_t kMailboxOffset = 3584;  // in the header's OS page

// ---- header ---------------------------------------------------------------------------------

enum class ProcessState : uint32_t {
  kNone = 0,
  kRunning =
      1,  // with the file's lock free: the process died without saying so (SIGKILL, _exit, exec)
  kExited = 2,  // the shim's exit handler ran: the counts are those of an orderly end
};

// At the end of a process that `slabscope run` started: it stops in its exit handler, with its
// heap as it is, until the tool has looked at it or a short time has passed.
enum class ExitPhase : uint32_t {
  kNone = 0,
  kWaiting = 1,   // the process: I wait
  kLooking = 2,   // the tool: I am here
  kReleased = 3,  // the tool: go on
};

enum class TrackMode : uint32_t { kOff = 0, kSampled = 1, kAll = 2 };

// Where a section lies. `record_bytes` is the stride; `limit` the number of records there is room
// for; `used` an upper bound of the records in use (a high-water mark, written by the shim).
struct Section {
  uint64_t offset;
  uint64_t bytes;
  uint32_t record_bytes;
  uint32_t limit;
  uint64_t used;
};

enum SectionIndex : uint32_t {
  kSectionCaches,
  kSectionModules,
  kSectionStrings,  // record_bytes 1; used = bytes used
  kSectionDepot,    // record_bytes 8; used = 8-byte units used, buckets included
  kSectionObjects,
  kSectionThreads,
  kSectionCount,
};

// Process counters, one row each in counters.def. All are u64; gauges may be sums of signed steps.
struct ProcessCounters {
#define COUNTER(name, kind, unit, level, help) uint64_t name;
#include "diag/abi/counters.def"
#undef COUNTER
};

struct Header {
  uint64_t magic;
  uint32_t version;
  uint32_t header_bytes;  // sizeof(Header) of the writer
  uint64_t layout_hash;   // kLayoutHash of the writer
  uint64_t file_bytes;
  uint64_t start_realtime_ns;   // CLOCK_REALTIME when the shim came up
  uint64_t start_monotonic_ns;  // CLOCK_MONOTONIC at the same moment; all other times are monotonic
  uint64_t end_monotonic_ns;    // 0 while running
  uint32_t state;               // ProcessState
  uint32_t pid;                 // as the process sees itself; information, never identity
  uint32_t parent_pid;
  uint32_t uid;
  uint32_t track_mode;       // TrackMode
  uint32_t sample_interval;  // bytes between samples in kSampled, 1 in kAll, 0 in kOff
  uint32_t heap_ready;       // 1 once caches are served from here
  uint32_t track_switches;   // how often the mode was changed at run time
  char comm[16];
  char app[64];  // $SLABSCOPE_APP or ""
  char shim_version[32];
  char exe[512];  // /proc/self/exe; without /proc what was started, if absolute; or ""
  Section sections[kSectionCount];
  // The page heap's address window and its layout, for readers that walk memory from outside.
  uint64_t window_base;
  uint64_t window_bytes;
  uint64_t heap_layout;  // address in the process of its HeapLayout; 0: none (abi/heap_layout.h)
  uint32_t exit_phase;   // ExitPhase, a futex
  uint32_t reserved1;
  Section events;       // used: the number of the newest, which lies at (used - 1) % limit
  Section peaks;        // used: 0; see PeakRecord
  uint64_t peak_epoch;  // of the newest peak that is whole; it lies at peak_epoch % 2; 0: none
  Section groups;
  uint64_t reserved[1];
  ProcessCounters counters;
};
static_assert(sizeof(Header) <= kMailboxOffset, "the header and the mailbox are one OS page");

// ---- mailbox ----------------------------------------------------------------------------------

// What a tool may ask of a living process. It writes `check`, `action` and `argument`, then
// `sequence`; the process looks when one of its threads next passes the slow path, and answers.
// Tools take turns by a lock on the mailbox's bytes (F_OFD_SETLK).
enum class Action : uint32_t {
  kNone = 0,
  kTrack = 1,   // argument: mean bytes between samples; 1: all objects; 0: none
  kShrink = 2,  // empty slabs, and what threads' lists hold, become free runs
  kPurge = 3,   // that, and free runs go back to the kernel
};

enum class ReplyStatus : uint32_t { kNone = 0, kDone = 1, kRefused = 2 };

struct Request {
  uint32_t sequence;  // one more than the last one's, never 0
  uint32_t check;     // ~sequence
  uint32_t action;    // Action
  uint32_t reserved;
  uint64_t argument;
};

struct Reply {
  uint32_t sequence;  // of the request; stored last
  uint32_t status;    // ReplyStatus
  uint64_t value;     // kTrack: the argument before; kShrink: slabs; kPurge: bytes given back
  uint64_t monotonic_ns;
};

struct Mailbox {
  Request request;  // written by tools alone
  uint64_t reserved;
  Reply reply;  // written by the process alone
};
static_assert(sizeof(Mailbox) == 56 && kMailboxOffset + sizeof(Mailbox) <= kPageBytes);

// ---- events -----------------------------------------------------------------------------------

enum class EventKind : uint32_t {
  kNone = 0,
  kCacheCreated = 1,
  kDestroyRefused = 2,    // value: objects in use
  kCacheDestroyed = 3,    // its name is gone; threads may still hold free memory of it
  kCacheDetached = 4,     // likewise, with objects in use: value
  kCacheReleased = 5,     // nothing is left of it
  kCacheShrunk = 6,       // value: slabs given back; without a cache: of all caches
  kTrackingSwitched = 7,  // value: mean bytes between samples, 1 all, 0 none; other_value: before
  kOutOfMemory = 8,       // value: bytes asked for; other_value: failures so far
  kThreadsFull = 9,       // value: threads that had no slot of their own so far
  kMemoryReleased = 10,   // on request; value: bytes
  kRequestRefused = 11,   // value: its action
  kMisuse = 12,           // value: the address; name: what was done with it
};
inline constexpr uint32_t kLastEventKind = 12;

struct EventRecord {
  uint64_t sequence;  // counts from 1; 0 while the record is written; stored last
  uint32_t kind;      // EventKind
  uint32_t tid;       // of the thread that it happened in; 0: unknown
  uint64_t monotonic_ns;
  uint64_t realtime_ns;
  uint32_t cache;       // id; 0: none
  uint32_t generation;  // of that id
  uint64_t value;
  uint64_t other_value;
  char name[64];  // of the cache
  uint64_t reserved;
};
static_assert(sizeof(EventRecord) == 128);

// ---- caches ---------------------------------------------------------------------------------

enum class CacheState : uint32_t { kUnused = 0, kLive = 1, kDying = 2, kZombie = 3 };
enum class CacheKind : uint32_t {
  kNone = 0,
  kMalloc = 1,  // one of malloc's size classes
  kLarge = 2,   // allocations above the largest class; object_size and slab geometry are 0
  kObject = 3,  // a program's own cache; a group's child is of its root's kind
  kUnused4 = 4,
  kOwn = 5,    // what the shim's own start allocated; no part of what a program leaves behind
  kAlias = 6,  // another name of the cache `parent`; has no counts of its own
};

// In CacheRecord::flags, beside what slab_cache_create() was given: a destruction of this cache was
// refused, because objects of it were in use (ObjectRecord::remained says which).
inline constexpr uint32_t kDestroyRefused = 1u << 31;

// Gauges and counters that slow paths keep, per cache.
struct CacheStats {
  uint64_t slabs;             // gauge: slabs this cache owns
  uint64_t slabs_partial;     // gauge: of these, on the partial list (some free, nobody's current)
  uint64_t slabs_empty;       // gauge: of these, kept although no object is out
  uint64_t objects_out;       // gauge: objects not in a slab: in use, or on a thread's list
  uint64_t slow_allocations;  // counter: allocations that missed the thread's list
  uint64_t remote_frees;      // counter: objects returned to a slab current in another thread
  uint64_t slabs_grown;       // counter: slabs taken from the page heap
  uint64_t slabs_released;    // counter: slabs given back to it
  uint64_t peak_active_objects;  // gauge: highest objects in use, seen at the slow path
  uint64_t live_bytes;           // gauge: bytes in use; kLarge only
};

struct CacheRecord {
  uint32_t state;        // CacheState; stored last
  uint32_t kind;         // CacheKind
  uint32_t flags;        // as given to slab_cache_create(), and kDestroyRefused
  uint32_t object_size;  // bytes handed out per object; 0 for kLarge
  uint32_t align;
  uint32_t slab_size;  // bytes
  uint32_t objects_per_slab;
  uint32_t parent;      // of a group's child: its root cache's id; else 0
  uint32_t group;       // number of the group that it is a child in; 0: none
  uint32_t generation;  // how often this id was reused
  uint64_t created_monotonic_ns;
  char name[64];  // NUL-terminated, no spaces
  CacheStats stats;
};
static_assert(sizeof(CacheRecord) == 192);

// ---- groups ---------------------------------------------------------------------------------

enum class GroupState : uint32_t {
  kUnused = 0,
  kLive = 1,
  kDying = 2,    // being destroyed, or destroyed and waiting for threads to let go of free memory
  kOffline = 3,  // destroyed by name, with objects in use
};
enum class GroupMade : uint32_t { kByProgram = 0, kByThreadName = 1 };

struct GroupStats {
  uint64_t threads;      // gauge: that are in it now
  uint64_t held_bytes;   // gauge: in its slabs and large blocks
  uint64_t limit_bytes;  // gauge: how many these may be; 0: no limit
  uint64_t refused;      // counter: allocations for which the limit left no room
  uint64_t overflowed;   // counter: threads that share it for want of room for a group of theirs
};

struct GroupRecord {
  uint32_t state;       // GroupState; stored last
  uint32_t made;        // GroupMade
  uint32_t first_id;    // of its caches: the child of malloc's cache i has the id first_id + i
  uint32_t generation;  // how often this number was reused
  uint64_t created_monotonic_ns;
  char name[64];  // NUL-terminated, no spaces
  GroupStats stats;
};
static_assert(sizeof(GroupRecord) == 128);

// ---- modules --------------------------------------------------------------------------------

struct ModuleRecord {
  uint64_t start;           // first mapped address
  uint64_t end;             // one past the last
  uint64_t bias;            // load bias: virtual address in the ELF file = pc - bias
  uint32_t path;            // offset into strings
  uint32_t build_id_bytes;  // 0 if the module has none
  uint8_t build_id[32];
  // Valid for stacks with loaded <= generation < unloaded (0: still loaded).
  uint32_t loaded_generation;
  uint32_t unloaded_generation;
  uint32_t state;  // 1 = valid; stored last
  uint32_t reserved;
};
static_assert(sizeof(ModuleRecord) == 80);

// ---- stack depot ----------------------------------------------------------------------------

// A stack's handle is its record's offset in the depot section, in units of 8 bytes. Handle 0 is
// "no stack". buckets[hash & mask] holds the handle of the newest record, where the mask (below
// kDepotBuckets) is the writer's own; `next` chains to older ones. Readers walk the records in
// order.
struct StackRecord {
  uint32_t next;
  uint32_t hash;
  uint32_t frame_count;
  uint32_t generation;    // of the module table when the stack was stored
  uint64_t live_objects;  // tracked objects only: all of them in kAll, the samples in kSampled
  uint64_t live_bytes;    // requested bytes of the same
  // Unsampled: each object weighs 1 / P(sampled). The total: whatever was ever allocated.
  uint64_t estimated_total_bytes;
  uint64_t estimated_total_milliobjects;
  uint64_t estimated_live_bytes;
  uint64_t estimated_live_milliobjects;
  // What was live when the peak of `peak_epoch` began, if that is the newest peak's; else nothing
  // has changed since, and what is live now was live then.
  uint32_t peak_epoch;    // low 31 bits; the highest one: being written
  uint32_t peak_samples;  // live_objects
  uint64_t peak_estimated_bytes;
  uint64_t peak_estimated_milliobjects;
  // frame_count return addresses (uint64_t) follow, innermost first
};
inline constexpr uint32_t kPeakBeingWritten = 1u << 31;
inline constexpr uint32_t kStackRecordBytes = 88;
static_assert(sizeof(StackRecord) == kStackRecordBytes);

// ---- tracked objects ------------------------------------------------------------------------

struct ObjectRecord {
  uint64_t address;  // 0 = unused; stored last
  uint64_t size;     // requested bytes
  uint64_t when_monotonic_ns;
  uint32_t stack;  // handle
  // Sampling interval in force: weight = 1 / (1 - exp(-size/interval)); 1 = exact.
  uint32_t interval;
  uint16_t cache;     // id
  uint16_t remained;  // refused destructions of its cache that found it in use
  uint32_t sequence;  // bumped at each reuse
};
static_assert(sizeof(ObjectRecord) == 40);

// ---- threads --------------------------------------------------------------------------------

struct CounterPair {
  uint64_t allocs;
  uint64_t frees;
};

enum class ThreadState : uint32_t {
  kFree = 0,
  kLive = 1,
  kEnded = 2,  // nobody writes here now; the counts still belong to the sums
};

// One thread's counters. A slot outlives its thread: its counts stay, and the next thread that is
// given the slot goes on counting where the last one stopped.
struct ThreadSlot {
  uint32_t state;  // ThreadState
  uint32_t tid;
  uint64_t started_monotonic_ns;
  char name[16];
  uint64_t generation;  // threads that have used this slot
  uint64_t reserved[123];
  CounterPair counters[kMaxCaches];  // by cache id
};
static_assert(offsetof(ThreadSlot, counters) == 1024);
inline constexpr uint32_t kThreadSlotBytes = 65536;
static_assert(sizeof(ThreadSlot) == kThreadSlotBytes);
inline constexpr uint32_t kThreadSlotsPerBlock = 32;

// ---- the high-water mark ------------------------------------------------------------------------

struct PeakCache {
  uint32_t cache;       // id
  uint32_t generation;  // of that id
  uint64_t objects;     // in use
  uint64_t bytes;       // in use, rounded up to the size of an object
};

// Two, written by turns: the one that Header::peak_epoch names is whole.
struct PeakRecord {
  uint64_t epoch;
  uint64_t monotonic_ns;
  uint64_t realtime_ns;
  uint64_t objects;  // sums over `caches`
  uint64_t bytes;
  uint32_t cache_count;
  uint32_t reserved0;
  uint64_t reserved[2];
  PeakCache caches[kMaxCaches];  // those with objects in use, by id
};
inline constexpr uint32_t kPeakRecordBytes = 98304;
inline constexpr uint32_t kMaxPeaks = 2;
static_assert(sizeof(PeakRecord) <= kPeakRecordBytes && kPeakRecordBytes % kPageBytes == 0);

// ---- where the sections lie in a file of this version ---------------------------------------

inline constexpr uint64_t kCachesOffset = kPageBytes;
inline constexpr uint64_t kCachesBytes = 774144;  // kMaxCaches * sizeof(CacheRecord), page-aligned
inline constexpr uint64_t kModulesOffset = kCachesOffset + kCachesBytes;
inline constexpr uint64_t kModulesBytes = kMaxModules * sizeof(ModuleRecord);
inline constexpr uint64_t kStringsOffset = kModulesOffset + kModulesBytes;
inline constexpr uint64_t kStringsBytes = 512 << 10;
inline constexpr uint64_t kGroupsOffset = kStringsOffset + kStringsBytes;
inline constexpr uint64_t kGroupsBytes = uint64_t{kMaxGroups} * sizeof(GroupRecord);
inline constexpr uint64_t kEventsOffset = kGroupsOffset + kGroupsBytes;
inline constexpr uint64_t kEventsBytes = uint64_t{kMaxEvents} * sizeof(EventRecord);
inline constexpr uint64_t kPeaksOffset = kEventsOffset + kEventsBytes;
inline constexpr uint64_t kPeaksBytes = uint64_t{kMaxPeaks} * kPeakRecordBytes;
inline constexpr uint64_t kDepotOffset = kPeaksOffset + kPeaksBytes;
inline constexpr uint64_t kDepotBytes = 64 << 20;
inline constexpr uint64_t kObjectsOffset = kDepotOffset + kDepotBytes;
inline constexpr uint64_t kObjectsBytes = uint64_t{kMaxObjects} * sizeof(ObjectRecord);
inline constexpr uint64_t kThreadsOffset = kObjectsOffset + kObjectsBytes;
inline constexpr uint64_t kThreadsBytes = uint64_t{kMaxThreads} * kThreadSlotBytes;
inline constexpr uint64_t kFileBytes = kThreadsOffset + kThreadsBytes;
static_assert(kCachesBytes == kMaxCaches * sizeof(CacheRecord) && kCachesBytes % kPageBytes == 0);
static_assert(kModulesOffset % kPageBytes == 0 && kStringsOffset % kPageBytes == 0);
static_assert(kEventsOffset % kPageBytes == 0 && kPeaksOffset % kPageBytes == 0);
static_assert(kDepotOffset % kPageBytes == 0);
static_assert(kObjectsOffset % kPageBytes == 0 && kThreadsOffset % kPageBytes == 0);

inline constexpr const char* kCounterNames[] = {
#define COUNTER(name, kind, unit, level, help) #name,
#include "diag/abi/counters.def"
#undef COUNTER
};

// FNV-1a over the sizes that matter, and over the counters' names with their NULs, in order.
template <size_t kCount>
constexpr uint64_t layout_hash(const char* const (&counters)[kCount]) {
  constexpr uint64_t kPrime = 0x100000001b3;
  uint64_t hash = 0xcbf29ce484222325;
  constexpr uint64_t kWords[] = {
      sizeof(Header),      sizeof(ProcessCounters), sizeof(CacheRecord), sizeof(ModuleRecord),
      sizeof(StackRecord), sizeof(ObjectRecord),    sizeof(ThreadSlot),  sizeof(EventRecord),
      sizeof(PeakRecord),  sizeof(Mailbox),         sizeof(GroupRecord), kFileBytes};
  for (uint64_t word : kWords) {
    hash = (hash ^ word) * kPrime;
  }
  for (const char* name : counters) {
    do {
      hash = (hash ^ static_cast<unsigned char>(*name)) * kPrime;
    } while (*name++ != '\0');
  }
  return hash;
}
// Changes whenever a size does, or a counter's name or place.
inline constexpr uint64_t kLayoutHash = layout_hash(kCounterNames);

}  // namespace slabscope::abi
