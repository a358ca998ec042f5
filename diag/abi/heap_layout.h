// SPDX-License-Identifier: MIT
//
// HeapLayout: how a reader finds every live object in the memory of a process under the shim.
//
//   scope file, Header::heap_layout ─► HeapLayout (in the shim's data, written once)
//
//   page map  *segments_at[] ─► chunk records ─► slab record ─► cache record
//                                  │ large: length    │ word: objects that are back in the slab
//   threads   *blocks_at[] ─► slots ─► bins: lists of free objects; slow records: more of them
//   huge      *huge_entries_at[] ─► address, bytes        (mappings of their own)
//   live object = carved from its slab, not in the slab's chain, on no thread's list
//
// Sizes and offsets are data, not constants of this header: a reader follows what the process says,
// so that an allocator that was tuned otherwise is read rightly. `…_at` is the address of a
// variable in that process; every other field is a size, an offset in bytes, or a number.
//
// Invariants
//   1. Filled from slab's own types, by sizeof and offsetof (preload/heap_layout.cc): it cannot
//      differ from what the allocator does.
//   2. Nothing in it is trusted: readers bound each walk, and check each address they compute.
// Why not in the file: it is only of use with the process's memory, which is gone when it is.

#pragma once

#include <cstdint>

namespace slabscope::abi {

inline constexpr uint64_t kHeapLayoutMagic = 0x5041454842414c53;  // "SLABHEAP"
inline constexpr uint32_t kHeapLayoutVersion = 1;

// Memory of the allocator's own, which leads nowhere: `*pointer_at`, and `*count_at` (of
// count_bytes bytes) units of unit_bytes, shifted right by `shift`.
struct OwnMemory {
  uint64_t pointer_at;
  uint64_t count_at;
  uint32_t count_bytes;
  uint32_t unit_bytes;
  uint32_t shift;
  uint32_t reserved;
};
inline constexpr uint32_t kOwnMemories = 4;

struct HeapLayout {
  uint64_t magic;
  uint32_t version;
  uint32_t bytes;  // sizeof(HeapLayout) of the writer

  // ---- page map ----
  uint64_t window_base_at;  // u64
  uint64_t chunk_limit_at;  // u64: chunks in the window
  uint64_t segments_at;     // pointer to pointers to chunk records, one a segment; null: none
  uint32_t chunk_shift;
  uint32_t chunks_per_segment;
  uint32_t chunk_bytes;   // of a chunk record
  uint32_t chunk_kind;    // u8
  uint32_t chunk_length;  // u32: chunks of the run
  uint32_t chunk_slab;    // pointer, if the kind is kind_slab
  uint32_t kind_slab;
  uint32_t kind_large;

  // ---- slabs and caches ----
  uint32_t slab_bytes;        // of a slab record
  uint32_t slab_word;         // u64: head + 1, count, carved, state; 16 bits each from the lowest
  uint32_t slab_cache;        // pointer
  uint32_t slab_base;         // pointer: the first object
  uint32_t slab_first_chunk;  // u32
  uint32_t cache_bytes;       // of a cache record
  uint32_t cache_id;          // u32
  uint32_t cache_object_size;
  uint32_t cache_slab_chunks;
  uint32_t cache_capacity;
  uint32_t cache_tracked;  // u8: 1 if each live object of its slabs has a record
  uint32_t large_id;       // the cache id of large blocks

  // ---- threads ----
  uint64_t blocks_at;       // array of pointers to blocks of slots
  uint64_t block_count_at;  // u32
  uint64_t slot_count_at;   // u32: slots ever used
  uint32_t max_blocks;
  uint32_t slots_per_block;
  uint32_t slot_bytes;
  uint32_t block_bytes;   // of a block with all that lies behind it
  uint32_t bin_bytes;     // slot + id * bin_bytes: pointer to the first free object
  uint32_t id_limit;      // ids 1 .. id_limit - 1 have bins
  uint32_t hidden_first;  // ids that have none, because the slot's record lies there
  uint32_t hidden_count;
  uint32_t slot_slow;  // pointer to the slow records, one an id
  uint32_t slow_bytes;
  uint32_t slow_limit;            // ids below have one
  uint32_t slow_reserve;          // pointer: more free objects
  uint32_t slow_tracked_reserve;  // likewise, of the tracked twin
  uint32_t reserved0;

  // ---- mappings ----
  uint64_t huge_entries_at;   // pointer to the table
  uint64_t huge_capacity_at;  // u64
  uint32_t huge_entry_bytes;
  uint32_t huge_address;  // u64, 0: unused
  uint32_t huge_size;     // u64
  uint32_t cached_entry_bytes;
  uint64_t cached_at;  // array of freed mappings: address, bytes
  uint32_t cached_entries;
  uint32_t cached_address;
  uint32_t cached_size;
  uint32_t reserved1;

  // ---- what is no root ----
  uint64_t meta_head_at;  // pointer to the newest block of the allocator's own: next, bytes (u64)
  OwnMemory own[kOwnMemories];

  // ---- the way to a snapshot: code that makes a system call, then restores all registers ----
  uint64_t snapshot_stub;  // 0: there is none on this machine
  uint32_t snapshot_stub_bytes;
  uint32_t reserved2;

  // ---- programs' own caches: bins and slow records from object_first on ----
  uint64_t object_limit_at;   // u32: one past the highest id; 0: there are none
  uint32_t object_first;      // its bin too lies at slot + id * bin_bytes
  uint32_t slot_object_slow;  // pointer to the slow records, from object_first on; null: none
};
static_assert(sizeof(OwnMemory) == 32);
static_assert(sizeof(HeapLayout) % 8 == 0);

}  // namespace slabscope::abi
