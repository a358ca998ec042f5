// SPDX-License-Identifier: MIT
//
// Every compile-time constant that tunes the allocator, in one place and cross-checked.

#pragma once

#include <cstddef>
#include <cstdint>

namespace slabscope {

struct Config {
  // ---- size classes: 16 bytes apart to 1 KiB, then 8 a doubling to 32 KiB -------------------
  static constexpr size_t kGranule = 16;         // also every block's alignment
  static constexpr size_t kFineMax = 1024;       // last size of the 16-byte steps
  static constexpr size_t kSmallMax = 32 << 10;  // above: page runs
  static constexpr unsigned kFineClasses = kFineMax / kGranule;
  static constexpr unsigned kCoarseClasses = 5 * 8;  // 2, 4, 8, 16, 32 KiB: five doublings
  static constexpr unsigned kSizeClasses = kFineClasses + kCoarseClasses;

  // ---- cache ids ----------------------------------------------------------------------------
  // Id 0 is never a cache: the map's answer for "ask the slow path". The fine classes' ids times
  // kGranule are their sizes, which saves malloc a table.
  static constexpr unsigned kFirstMallocId = 1;
  static constexpr unsigned kOwnId =
      kFirstMallocId + kSizeClasses;                // what the shim's own start needs
  static constexpr unsigned kLargeId = kOwnId + 1;  // page runs and mappings
  static constexpr unsigned kFirstObjectId = 120;   // programs' own caches, from here on
  static constexpr unsigned kMaxCaches = 4032;  // ids below; one thread's bins fit 64 KiB - 1 KiB

  // ---- groups (group.h) ---------------------------------------------------------------------
  static constexpr unsigned kGroupIds = kLargeId + 1;  // of a run: in the order of malloc's ids
  static constexpr unsigned kMaxGroups = (kMaxCaches - kFirstObjectId) / kGroupIds;
  static constexpr unsigned kGroupNesting = 24;  // how many that a thread entered it knows to leave

  // ---- pages --------------------------------------------------------------------------------
  static constexpr unsigned kChunkShift = 14;  // the map's grain. 16 KiB: a run wastes at most that
  static constexpr size_t kChunk = size_t{1} << kChunkShift;
  static constexpr size_t kSegment = 4 << 20;  // what is asked of the kernel at a time
  static constexpr size_t kChunksPerSegment = kSegment / kChunk;
  static constexpr size_t kWindow = size_t{1}
                                    << 40;  // address range the map covers: 128 MiB of map
  static constexpr size_t kSmallWindow = size_t{4} << 30;  // under an address-space limit: 512 KiB
  static constexpr size_t kHugeMin = 32 << 20;             // from here on, a mapping of its own
  static constexpr size_t kMoveMin = 256 << 10;  // realloc moves the pages of runs from here on
  static constexpr size_t kMaxRequest = PTRDIFF_MAX;

  // ---- slabs --------------------------------------------------------------------------------
  // Powers of two, so that a run which one class gave up fits the next: at least 16 objects up to
  // 1 KiB (16 KiB is what a thread that allocates a little of everything takes a class), at least
  // 2 above, so that most classes to 8 KiB share runs of one chunk.
  static constexpr size_t kSlabLeastBytes = 16 << 10;
  static constexpr size_t kSlabFineObjects = 16;
  static constexpr size_t kSlabCoarseObjects = 2;
  static constexpr size_t kSlabMostBytes = 128 << 10;
  static constexpr size_t kOwnObjectBytes = 4 << 10;  // of kOwnId: a few dozen objects in all

  // ---- thread caches ------------------------------------------------------------------------
  static constexpr size_t kSlotBytes = 64 << 10;   // one thread's bins, and one thread's counters
  static constexpr size_t kCountersOffset = 1024;  // of the counters in their slot
  static constexpr unsigned kSlotsPerBlock = 32;
  static constexpr size_t kBlockBytes = kSlotBytes * kSlotsPerBlock;
  // From a bin to its counters. Not a multiple of 4 KiB, so that a bin's store and its counter's
  // load never share their low 12 bits (the processor would take the one for the other).
  static constexpr size_t kBinToCounters = kBlockBytes + kCountersOffset;
  static constexpr unsigned kMaxBlocks = 512;
  // How long a thread's list of one cache may get before half of it goes back. It starts at
  // kBinMinObjects, and doubles when the slow path is reached again within kBinBusy operations.
  static constexpr size_t kBinMaxBytes = 6 << 10;
  static constexpr uint32_t kBinMaxObjects = 128;
  static constexpr uint32_t kBinMinObjects = 2;
  static constexpr uint32_t kBinBusy = 24;
  // How far a list may grow past that between two visits, so that a malloc/free loop on a short
  // list visits seldom. Earned by visits that find the list short, lost by one that finds it too
  // long. The second is for a list that is found (nearly) empty, as one is whose thread frees each
  // object before it takes the next.
  static constexpr size_t kBinSlackBytes = 32 << 10;
  static constexpr size_t kBinEmptySlackBytes = 128 << 10;
  static constexpr uint32_t kBinSlackObjects = 512;
  static constexpr uint64_t kBinLongest = kBinMaxObjects + kBinSlackObjects;  // list
  // A list that may hold fewer objects has no slab of its own: all threads take what they seldom
  // need, or in few pieces, from the same slabs, and touch one page instead of one each. Not a
  // thread that has met another one there.
  static constexpr uint32_t kBinKeepsSlab = 32;
  // Caches of ended threads that wait, lists and all, for the next thread to take them.
  static constexpr unsigned kWarmCaches = 16;
  // Mean bytes between two samples, unless somebody asks for another number; at this one a thread
  // takes at most kPacedSamples in kPacedMs, which is 2000 a second. One that took longer than
  // kPacedNs counts for as many, up to kMostPaced: then samples take 1/128 of a thread's time at
  // most (thread_sampling.cc).
  static constexpr uint32_t kSampleInterval = 512 << 10;
  static constexpr uint32_t kPacedSamples = 64;
  static constexpr uint32_t kPacedMs = 32;
  static constexpr uint32_t kPacedNs = 4096;
  static constexpr uint32_t kMostPaced = 16;
  static constexpr uint32_t kMaxThinning = 12;    // 2 GiB between two
  static constexpr uint32_t kVisitsPerTick = 64;  // slow-path visits between two looks at the clock

  // ---- giving memory back -------------------------------------------------------------------
  static constexpr uint32_t kDecayMs = 1000;      // default of SLABSCOPE_DECAY_MS
  static constexpr size_t kDirtyFloor = 1 << 20;  // free dirty bytes never bounded below this
  static constexpr unsigned kDirtyFraction = 4;   // ... nor below 1/4 of what is in use
  // While the heap is larger than it ever was, dirty bytes are bounded by less: so that its peak is
  // what was in use and little more. Only as long as it has not given back this many times what was
  // ever in use for that: what is faulted in again and again costs more than it saves.
  static constexpr size_t kPeakDirtyFloor = 128 << 10;
  static constexpr unsigned kPeakDirtyFraction = 64;
  static constexpr unsigned kPeakGivenBack = 2;
  static constexpr size_t kLeastGivenBack = 128 << 10;  // in one call
  static constexpr unsigned kHugeCacheEntries = 16;
  static constexpr size_t kHugeCacheBytes = 256 << 20;

  static_assert(uint64_t{kSampleInterval} << kMaxThinning <= UINT32_MAX && kMaxThinning <= 15);
  static_assert(kMaxCaches * 16 + kCountersOffset == kSlotBytes);
  static_assert(kLargeId < kMaxCaches && kSlabLeastBytes % kChunk == 0 && kSegment % kChunk == 0);
  static_assert(kSlabLeastBytes / kGranule <= 0xffff, "a slab's object index is 16 bits");
};

}  // namespace slabscope
