// SPDX-License-Identifier: MIT

#include "preload/heap_layout.h"

#include <cstddef>

#include "diag/abi/heap_layout.h"
#include "preload/snapshot_stub.h"
#include "preload/watch.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/large.h"
#include "slab/cache/thread_registry.h"
#include "slab/pages/meta.h"
#include "slab/pages/page_map.h"

// Slab has a base, and std::atomic members: offsets in it are what the compilers say they are.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"

namespace slabscope {
namespace {

constinit abi::HeapLayout g_layout{};

template <typename T>
uint64_t at(const T& variable) {
  return reinterpret_cast<uint64_t>(&variable);
}

// The reader takes the word apart as SlabWord does.
static_assert(SlabWord{.head = 1}.pack() == 1 && SlabWord{.count = 1}.pack() == 1 << 16);
static_assert(SlabWord{.carved = 1}.pack() == uint64_t{1} << 32);
static_assert(sizeof(ChunkKind) == 1 && offsetof(FreeObject, next) == 0);
static_assert(offsetof(Bin, head) == 0);
static_assert(sizeof(Chunk::length) == 4);

}  // namespace

// A friend of what it describes.
struct HeapLayoutWriter {
  static void write_map(abi::HeapLayout& layout) {
    layout.window_base_at = at(g_page_map.base_);
    layout.chunk_limit_at = at(g_page_map.limit_);
    layout.segments_at = at(g_page_map.segments_);
    layout.chunk_shift = Config::kChunkShift;
    layout.chunks_per_segment = Config::kChunksPerSegment;
    layout.chunk_bytes = sizeof(Chunk);
    layout.chunk_kind = offsetof(Chunk, kind);
    layout.chunk_length = offsetof(Chunk, length);
    layout.chunk_slab = offsetof(Chunk, slab);
    layout.kind_slab = static_cast<uint32_t>(ChunkKind::kSlab);
    layout.kind_large = static_cast<uint32_t>(ChunkKind::kLarge);
    layout.own[0] = {at(g_page_map.ids_), at(g_page_map.limit_), 8, sizeof(uint16_t), 0, 0};
    // limit_ chunks need limit_ / kChunksPerSegment pointers.
    static_assert((Config::kChunksPerSegment & (Config::kChunksPerSegment - 1)) == 0);
    layout.own[1] = {at(g_page_map.segments_),
                     at(g_page_map.limit_),
                     8,
                     sizeof(void*),
                     static_cast<uint32_t>(__builtin_ctzll(Config::kChunksPerSegment)),
                     0};
  }

  static void write_slabs(abi::HeapLayout& layout) {
    layout.slab_bytes = sizeof(Slab);
    layout.slab_word = offsetof(Slab, word);
    layout.slab_cache = offsetof(Slab, cache);
    layout.slab_base = offsetof(Slab, base);
    layout.slab_first_chunk = offsetof(Slab, first_chunk);
    layout.cache_bytes = sizeof(KmemCache);
    layout.cache_id = offsetof(KmemCache, id_);
    layout.cache_object_size = offsetof(KmemCache, object_size_);
    layout.cache_slab_chunks = offsetof(KmemCache, slab_chunks_);
    layout.cache_capacity = offsetof(KmemCache, capacity_);
    layout.cache_tracked = offsetof(KmemCache, tracked_);
    layout.large_id = Config::kLargeId;
  }

  static void write_threads(abi::HeapLayout& layout) {
    layout.blocks_at = at(g_threads.blocks_);
    layout.block_count_at = at(g_threads.block_count_);
    layout.slot_count_at = at(g_threads.slots_);
    layout.max_blocks = Config::kMaxBlocks;
    layout.slots_per_block = Config::kSlotsPerBlock;
    layout.slot_bytes = Config::kSlotBytes;
    layout.block_bytes = static_cast<uint32_t>(
        2 * Config::kBlockBytes + ThreadRegistry::kSlowStride * Config::kSlotsPerBlock);
    layout.bin_bytes = sizeof(Bin);
    layout.id_limit = CacheTable::kCount;
    layout.hidden_first = ThreadCache::kFirstHiddenId;
    layout.hidden_count = ThreadCache::kHiddenIds;
    layout.slot_slow = ThreadCache::kOffset + offsetof(ThreadCache, slow_);
    layout.slow_bytes = sizeof(BinSlow);
    layout.slow_limit = Config::kLargeId;
    layout.slow_reserve = offsetof(BinSlow, reserve);
    layout.slow_tracked_reserve = offsetof(BinSlow, tracked_reserve);
    layout.object_limit_at = at(g_caches.object_limit_);
    layout.object_first = Config::kFirstObjectId;
    layout.slot_object_slow = ThreadCache::kOffset + offsetof(ThreadCache, object_slow_);
  }

  static void write_mappings(abi::HeapLayout& layout) {
    const LargeTables tables = large_tables();
    layout.huge_entries_at = at(tables.huge->entries_);
    layout.huge_capacity_at = at(tables.huge->capacity_);
    layout.huge_entry_bytes = sizeof(HugeEntry);
    layout.huge_address = offsetof(HugeEntry, address);
    layout.huge_size = offsetof(HugeEntry, bytes);
    layout.cached_at = reinterpret_cast<uint64_t>(tables.cached);
    layout.cached_entries = tables.cached_entries;
    layout.cached_entry_bytes = sizeof(CachedMapping);
    layout.cached_address = offsetof(CachedMapping, address);
    layout.cached_size = offsetof(CachedMapping, bytes);
    layout.own[2] = {
        at(tables.huge->entries_), at(tables.huge->capacity_), 8, sizeof(HugeEntry), 0, 0};
    const diag::ObjectTable::PrivateMemory links = g_watch.objects.private_memory();
    layout.own[3] = {
        reinterpret_cast<uint64_t>(links.pointer), at(*links.count), 4, links.unit_bytes, 0, 0};
    layout.meta_head_at = at(*meta_newest_block());
  }
};

uint64_t heap_layout_publish() {
  HeapLayoutWriter::write_map(g_layout);
  HeapLayoutWriter::write_slabs(g_layout);
  HeapLayoutWriter::write_threads(g_layout);
  HeapLayoutWriter::write_mappings(g_layout);
  const SnapshotStub stub = snapshot_stub();
  g_layout.snapshot_stub = stub.address;
  g_layout.snapshot_stub_bytes = stub.bytes;
  g_layout.bytes = sizeof(g_layout);
  g_layout.version = abi::kHeapLayoutVersion;
  g_layout.magic = abi::kHeapLayoutMagic;
  return at(g_layout);
}

}  // namespace slabscope
