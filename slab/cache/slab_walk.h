// SPDX-License-Identifier: MIT
//
// A walk over the slabs of one cache, through the page map: for what is done once in its life.

#pragma once

#include "slab/cache/slab.h"
#include "slab/pages/page_heap.h"
#include "slab/pages/page_map.h"

namespace slabscope {

// Calls visit(slab) for each slab of `cache`. It may see one that leaves meanwhile.
template <typename Visit>
void for_each_slab(const KmemCache& cache, Visit visit) {
  const size_t top = g_page_map.chunk_top();
  const Slab* last = nullptr;
  for (size_t i = 0; i < top; ++i) {
    const Chunk* chunk = g_page_map.chunk(i);
    if (chunk == nullptr) {
      i |= Config::kChunksPerSegment - 1;
      continue;
    }
    if (chunk->kind.load(std::memory_order_acquire) != ChunkKind::kSlab)
      continue;
    Slab* slab = g_page_heap.slab_at(i);
    if (slab == nullptr || slab == last || slab->cache.load(std::memory_order_acquire) != &cache)
      continue;
    last = slab;
    visit(slab);
  }
}

}  // namespace slabscope
