// SPDX-License-Identifier: MIT
//
// PageMap: from an address to what lies there.
//
//   address ─ base ─ >> 14 ─► ids[]     u16 a chunk: the cache id, the one lookup that free() makes
//                        └──► chunk()   32 bytes a chunk, by segment: for slow paths
//
//   id 0          not ours, free, the inside of a large block, or an object with a stack on record:
//                 ask chunk()
//   any other id  every object of this chunk belongs to that cache
//
// The heap lives in one window of address space, so that ids[] is dense: 2 bytes per 16 KiB. The
// window is a range, not a reservation: only ids[] is mapped ahead (readable zeroes, 128 MiB of
// address space, no commit charge), the chunk table grows with the segments.
//
// Invariants
//   1. ids[c] is set before the first object of chunk c is handed out and zeroed before the chunk
//      returns to the page heap; in between it does not change.
//   2. chunk(c) is non-null for every chunk ever mapped, and its memory is never unmapped: a stale
//      pointer leads to a wrong answer, never to a fault.
// Locks: none for reading. Writers own the chunk (slab grow and release), or hold the page heap's.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "slab/base/compiler.h"
#include "slab/base/config.h"

namespace slabscope {

struct Slab;

enum class ChunkKind : uint8_t {
  kNone = 0,   // never mapped, or inside a large block or a free run
  kFree = 1,   // first or last chunk of a free run
  kSlab = 2,   // any chunk of a slab
  kLarge = 3,  // first chunk of a large block
};

struct BinLinks {
  uint32_t previous, next;
};

// What the page heap and free()'s slow path know of 16 KiB.
struct Chunk {
  std::atomic<ChunkKind> kind;
  bool dirty;         // kFree: may hold data; else the kernel guarantees zeroes
  uint16_t owner;     // kLarge: cache id that it counts under
  uint32_t length;    // chunks of the run; in its first chunk
  uint32_t run_head;  // kFree: index of the run's first chunk; in its last chunk
  uint32_t record;    // kLarge: the tracked object's record, 0 if none. kFree: when freed, ms
  union {
    BinLinks bin;  // kFree, first chunk: neighbours in its bin
    Slab* slab;    // kSlab
  };
  uint32_t older, newer;  // kFree, dirty, first chunk: neighbours in order of age
};
static_assert(sizeof(Chunk) == 32);

class PageMap {
 public:
  // Chunk number of an address; >= chunk_limit() if it lies outside the window.
  SC_INLINE size_t index_of(const void* address) const {
    return (reinterpret_cast<uintptr_t>(address) - base_) >> Config::kChunkShift;
  }
  SC_INLINE size_t chunk_limit() const { return limit_; }
  // One past the last chunk that was ever covered: where a walk over all chunks ends.
  size_t chunk_top() const { return __atomic_load_n(&top_, __ATOMIC_ACQUIRE); }
  SC_INLINE void* address_of(size_t index) const {
    return reinterpret_cast<void*>(base_ + (index << Config::kChunkShift));
  }

  // Cache id of the chunk; index < chunk_limit().
  SC_INLINE unsigned id_at(size_t index) const {
    return __atomic_load_n(&ids_[index], __ATOMIC_RELAXED);
  }
  void set_ids(size_t index, size_t count, unsigned id);

  // The chunk's record, nullptr if no segment ever was there.
  SC_INLINE Chunk* chunk(size_t index) const {
    Chunk* segment =
        __atomic_load_n(&segments_[index / Config::kChunksPerSegment], __ATOMIC_ACQUIRE);
    return segment == nullptr ? nullptr : segment + index % Config::kChunksPerSegment;
  }
  // The record of the chunk that holds `address`, nullptr if it is not in the window or never
  // mapped.
  Chunk* find(const void* address) const {
    const size_t index = index_of(address);
    return index < limit_ ? chunk(index) : nullptr;
  }
  // The slab that `address` lies in, nullptr if it lies in none. What the chunk is must not change
  // meanwhile: the caller has an object there, or takes it for one.
  Slab* slab_of(const void* address) const {
    const Chunk* chunk = find(address);
    return chunk != nullptr && chunk->kind.load(std::memory_order_acquire) == ChunkKind::kSlab
               ? chunk->slab
               : nullptr;
  }

  uintptr_t base() const { return base_; }
  size_t bytes() const { return limit_ << Config::kChunkShift; }

  // Maps the tables for a window that starts at `base`. Once, by the page heap. False: no memory.
  [[nodiscard]] bool init(uintptr_t base, size_t window_bytes);
  // Makes ids and chunk records of [index, index + count) usable. Under the page heap's lock.
  [[nodiscard]] bool cover(size_t index, size_t count);

 private:
  friend struct HeapLayoutWriter;  // preload/: describes the heap to tools

  [[nodiscard]] bool cover_ids(size_t index, size_t count);

  uintptr_t base_ = 0;
  size_t top_ = 0;
  size_t limit_ = 0;  // 0 until init(): every lookup then goes to the slow path
  uint16_t* ids_ = nullptr;
  Chunk** segments_ = nullptr;
  size_t ids_writable_low_ = 0;  // bytes [low, high) of ids_ are writable
  size_t ids_writable_high_ = 0;
};

extern constinit PageMap g_page_map;

}  // namespace slabscope
