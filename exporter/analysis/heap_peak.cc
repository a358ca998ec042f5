// SPDX-License-Identifier: MIT

#include "exporter/analysis/heap_peak.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "exporter/base/text.h"
#include "exporter/source/attach.h"

namespace slabscope {
namespace {

constexpr int kTries = 8;  // peaks follow one another while a process grows

uint64_t read_epoch(const ScopeReader& reader) {
  uint64_t epoch = 0;
  reader.read(offsetof(abi::Header, peak_epoch), &epoch, sizeof(epoch));
  return epoch;
}

struct PeakCaches {
  HeapPeak peak;
  std::vector<abi::PeakCache> caches;
};

std::optional<PeakCaches> read_record(const OpenScope& scope, uint64_t epoch) {
  constexpr size_t kHead = offsetof(abi::PeakRecord, caches);
  struct Head {
    uint64_t epoch, monotonic_ns, realtime_ns, objects, bytes;
    uint32_t cache_count, reserved0;
    uint64_t reserved[2];
  } head{};
  static_assert(sizeof(Head) == kHead);
  const abi::Section& section = scope.header.peaks;
  if (section.limit < abi::kMaxPeaks) {
    return std::nullopt;
  }
  const uint64_t offset = section.offset + epoch % abi::kMaxPeaks * abi::kPeakRecordBytes;
  if (scope.reader.read(offset, &head, kHead) < kHead || head.epoch != epoch) {
    return std::nullopt;
  }
  PeakCaches found;
  found.peak.monotonic_ns = head.monotonic_ns;
  found.peak.realtime_ns = head.realtime_ns;
  found.peak.objects = head.objects;
  found.peak.bytes = head.bytes;
  found.caches.resize(std::min(head.cache_count, abi::kMaxCaches));
  const size_t bytes = found.caches.size() * sizeof(abi::PeakCache);
  found.caches.resize(scope.reader.read(offset + kHead, found.caches.data(), bytes) /
                      sizeof(abi::PeakCache));
  return found;
}

// The cache that had the id then: as it is known now, or by the name that its record still has.
Cache cache_of(const OpenScope& scope, const abi::PeakCache& peak, const Snapshot& snapshot) {
  const auto known =
      std::find_if(snapshot.caches.begin(), snapshot.caches.end(), [&](const Cache& cache) {
        return cache.id == peak.cache && cache.generation == peak.generation;
      });
  Cache cache;
  if (known != snapshot.caches.end()) {
    cache = *known;
  } else {
    abi::CacheRecord record{};
    const uint64_t offset =
        scope.header.sections[abi::kSectionCaches].offset + uint64_t{peak.cache} * sizeof(record);
    cache.name = "cache-" + std::to_string(peak.cache);
    if (peak.cache < abi::kMaxCaches &&
        scope.reader.read(offset, &record, sizeof(record)) == sizeof(record) &&
        record.generation == peak.generation && record.name[0] != '\0') {
      cache.name =
          printable_utf8(std::string_view(record.name, strnlen(record.name, sizeof(record.name))));
    }
  }
  cache.id = peak.cache;
  cache.generation = peak.generation;
  cache.allocations = peak.objects;
  cache.frees = 0;
  if (cache.kind == abi::CacheKind::kLarge) {
    cache.stats.live_bytes = peak.bytes;
  } else {
    cache.object_size = static_cast<uint32_t>(
        std::min<uint64_t>(UINT32_MAX, peak.bytes / std::max<uint64_t>(1, peak.objects)));
  }
  return cache;
}

// What each stack held then. Errors of estimates are those of so many equal samples.
std::map<uint32_t, HeapGroup> groups_at(const std::vector<Stack>& stacks, uint64_t epoch) {
  std::map<uint32_t, HeapGroup> groups;
  const auto low = static_cast<uint32_t>(epoch) & ~abi::kPeakBeingWritten;
  for (const Stack& stack : stacks) {
    const bool kept = stack.peak.epoch == low;
    const uint64_t samples = kept ? stack.peak.samples : stack.live_objects;
    const double objects = kept ? stack.peak.estimated_objects : stack.estimated_live_objects;
    const auto bytes =
        static_cast<double>(kept ? stack.peak.estimated_bytes : stack.estimated_live_bytes);
    if (samples == 0 || static_cast<int64_t>(samples) < 0) {
      continue;
    }
    HeapGroup& group = groups[stack.handle];
    group.samples = samples;
    group.estimated = objects > static_cast<double>(samples) * 1.0001;
    const double share = group.estimated ? 1 / static_cast<double>(samples) : 0;
    group.objects = {objects, objects * objects * share};
    group.bytes = {bytes, bytes * bytes * share};
  }
  return groups;
}

}  // namespace

Result<std::optional<HeapPeak>> read_heap_peak(const std::string& path) {
  for (int tries = 1;; ++tries) {
    const Result<OpenScope> scope = open_scope(path);
    if (!scope) {
      return scope.failure();
    }
    const uint64_t epoch = read_epoch(scope->reader);
    if (epoch == 0) {
      return std::optional<HeapPeak>();
    }
    std::optional<PeakCaches> found = read_record(*scope, epoch);
    Result<Snapshot> snapshot = attach(path, Include::kModules | Include::kStacks);
    if (!snapshot) {
      return snapshot.failure();
    }
    if ((!found || read_epoch(scope->reader) != epoch) && tries < kTries) {
      continue;
    }
    if (!found) {
      return std::optional<HeapPeak>();
    }
    std::vector<Cache> caches;
    for (const abi::PeakCache& cache : found->caches) {
      caches.push_back(cache_of(*scope, cache, *snapshot));
    }
    snapshot->caches = std::move(caches);
    found->peak.reading.groups = HeapGroups(groups_at(snapshot->stacks, epoch));
    found->peak.reading.snapshot = std::move(*snapshot);
    found->peak.reading.moment_ns = found->peak.monotonic_ns;
    return std::optional<HeapPeak>(std::move(found->peak));
  }
}

}  // namespace slabscope
