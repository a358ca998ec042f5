// SPDX-License-Identifier: MIT

#include "slab/inspect.h"

#include "slab/cache/cache_table.h"
#include "slab/cache/thread_registry.h"

namespace slabscope {

void for_each_cache(void (*visit)(const CacheView& cache, void* context), void* context) {
  for (unsigned id = Config::kFirstMallocId; id < g_caches.limit(); ++id) {
    if (!g_caches.ready(id))
      continue;
    const bool large = !g_caches.has_slabs(id);
    const CounterPair total = g_threads.total(id);
    const CacheStats& stats = g_caches.stats(id);
    CacheView view{};
    view.id = id;
    view.object_size = large ? 0 : g_caches.plain(id)->object_size();
    view.allocations = total.allocs;
    view.active_objects = total.allocs - total.frees;
    view.active_bytes = large ? stat_get(stats.live_bytes) : view.active_objects * view.object_size;
    view.slabs = stat_get(stats.slabs);
    visit(view, context);
  }
}

HeapTotals heap_totals() {
  HeapTotals totals{};
  for_each_cache(
      [](const CacheView& cache, void* context) {
        auto* sum = static_cast<HeapTotals*>(context);
        sum->active_bytes += cache.active_bytes;
        if (cache.object_size == 0)
          sum->large_blocks = cache.active_objects;
      },
      &totals);
  totals.slab_bytes = stat_get(g_heap_stats->mapped_slab_bytes);
  totals.large_bytes = stat_get(g_heap_stats->mapped_large_bytes);
  totals.free_bytes = stat_get(g_heap_stats->mapped_free_bytes);
  return totals;
}

}  // namespace slabscope
