// SPDX-License-Identifier: MIT
//
// The families of caches: one series a cache and app, for caches that ever had an allocation, so
// that series come and never go.

#include <algorithm>
#include <array>
#include <map>

#include "exporter/output/prometheus.h"

namespace slabscope {
namespace {

// The gauges of one cache name, over the live processes of a subject.
struct CacheSum {
  uint64_t active_objects = 0;
  uint64_t active_bytes = 0;
  uint64_t objects = 0;
  uint64_t object_size = 0;
  uint64_t slab_size = 0;
  uint64_t slabs_full = 0;
  uint64_t slabs_partial = 0;
  uint64_t slabs_empty = 0;
  uint64_t peak_active_objects = 0;

  void add(const Cache& cache) {
    active_objects += cache.active_objects();
    active_bytes += cache.active_bytes();
    objects += cache.objects();
    object_size = std::max<uint64_t>(object_size, cache.object_size);
    slab_size = std::max<uint64_t>(slab_size, cache.slab_size);
    slabs_full += cache.slabs_full();
    slabs_partial += cache.slabs_partial();
    slabs_empty += cache.slabs_empty();
    peak_active_objects += cache.stats.peak_active_objects;
  }
};

struct CacheRow {
  CacheSum now;
  CacheTotals totals;
};

enum class Level { kBasic, kFull };

struct CacheFamily {
  Level level;
  FamilyInfo info;
  double (*value)(const CacheRow&);
  const char* state = nullptr;  // label value, for slabs
};

template <auto Field>
double now(const CacheRow& row) {
  return static_cast<double>(row.now.*Field);
}
template <auto Field>
double total(const CacheRow& row) {
  return static_cast<double>(row.totals.*Field);
}

constexpr FamilyInfo kSlabs{
    "slabscope_cache_slabs", MetricKind::kGauge,
    "Slabs of this cache, by state: full (or a thread's current one), partial, empty."};

constexpr CacheFamily kFamilies[] = {
    {Level::kBasic,
     {"slabscope_cache_allocations_total", MetricKind::kCounter,
      "Objects allocated from this cache."},
     total<&CacheTotals::allocations>},
    {Level::kBasic,
     {"slabscope_cache_frees_total", MetricKind::kCounter, "Objects freed to this cache."},
     total<&CacheTotals::frees>},
    {Level::kBasic,
     {"slabscope_cache_active_objects", MetricKind::kGauge, "Objects in use by the application."},
     now<&CacheSum::active_objects>},
    {Level::kBasic,
     {"slabscope_cache_active_bytes", MetricKind::kGauge,
      "Bytes in objects in use, rounded up to the size of an object."},
     now<&CacheSum::active_bytes>},
    {Level::kBasic,
     {"slabscope_cache_object_size_bytes", MetricKind::kGauge,
      "Size of one object; 0 where sizes differ."},
     now<&CacheSum::object_size>},
    {Level::kFull,
     {"slabscope_cache_objects", MetricKind::kGauge,
      "Objects in the slabs of this cache, used or free."},
     now<&CacheSum::objects>},
    {Level::kFull, kSlabs, now<&CacheSum::slabs_full>, "full"},
    {Level::kFull, kSlabs, now<&CacheSum::slabs_partial>, "partial"},
    {Level::kFull, kSlabs, now<&CacheSum::slabs_empty>, "empty"},
    {Level::kFull,
     {"slabscope_cache_slab_size_bytes", MetricKind::kGauge, "Size of one slab."},
     now<&CacheSum::slab_size>},
    {Level::kFull,
     {"slabscope_cache_peak_active_objects", MetricKind::kGauge,
      "Highest number of objects in use since the process started; over several processes the sum "
      "of their peaks, which no moment need have seen."},
     now<&CacheSum::peak_active_objects>},
    {Level::kFull,
     {"slabscope_cache_slow_allocations_total", MetricKind::kCounter,
      "Allocations that missed the thread's free list."},
     total<&CacheTotals::slow_allocations>},
    {Level::kFull,
     {"slabscope_cache_remote_frees_total", MetricKind::kCounter,
      "Objects returned to a slab that is current in another thread."},
     total<&CacheTotals::remote_frees>},
    {Level::kFull,
     {"slabscope_cache_slabs_grown_total", MetricKind::kCounter, "Slabs taken from the page heap."},
     total<&CacheTotals::slabs_grown>},
    {Level::kFull,
     {"slabscope_cache_slabs_released_total", MetricKind::kCounter,
      "Slabs given back to the page heap."},
     total<&CacheTotals::slabs_released>},
};

bool is_wanted(const std::string& name, const MetricOptions& options) {
  return (!options.cache_include || std::regex_match(name, *options.cache_include)) &&
         (!options.cache_exclude || !std::regex_match(name, *options.cache_exclude));
}

std::map<std::string, CacheRow> rows_of(const Subject& subject, const MetricOptions& options) {
  std::map<std::string, CacheRow> rows;
  for (const auto& [name, totals] : subject.totals.caches) {
    if (is_wanted(name, options)) {
      rows[name].totals = totals;
    }
  }
  for (const ProcessView* view : subject.live) {
    for (const Cache& cache : view->snapshot->caches) {
      const auto row = rows.find(cache.name);
      if (row != rows.end()) {
        row->second.now.add(cache);
      }
    }
  }
  return rows;
}

bool is_wanted(const CacheFamily& family, const MetricOptions& options) {
  return family.level == Level::kBasic || options.cache_detail == CacheDetail::kFull;
}

void add_row(FamilySet& families, const MetricOptions& options, const Labels& labels,
             const CacheRow& row) {
  for (const CacheFamily& family : kFamilies) {
    if (is_wanted(family, options)) {
      families.add(family.info,
                   family.state == nullptr ? labels : with(labels, "state", family.state),
                   family.value(row));
    }
  }
}

}  // namespace

uint64_t add_cache_metrics(FamilySet& families, const std::vector<Subject>& subjects,
                           const MetricOptions& options) {
  if (options.cache_detail == CacheDetail::kOff) {
    return 0;
  }
  const auto series_of_cache = static_cast<uint64_t>(
      std::count_if(std::begin(kFamilies), std::end(kFamilies),
                    [&](const CacheFamily& family) { return is_wanted(family, options); }));
  uint64_t room = options.max_cache_series;
  uint64_t dropped = 0;
  for (const Subject& subject : subjects) {
    for (const auto& [name, row] : rows_of(subject, options)) {
      if (room < series_of_cache) {
        dropped += series_of_cache;
        continue;
      }
      room -= series_of_cache;
      add_row(families, options, with(subject.labels, "cache", name), row);
    }
  }
  return dropped;
}

}  // namespace slabscope
