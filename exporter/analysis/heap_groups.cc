// SPDX-License-Identifier: MIT

#include "exporter/analysis/heap_groups.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "exporter/base/text.h"
#include "exporter/source/attach.h"
#include "exporter/source/attach_tables.h"
#include "exporter/source/object_summary.h"

namespace slabscope {

double Estimate::standard_error() const {
  return variance > 0 ? std::sqrt(variance) : 0;
}

void HeapGroup::add(const HeapGroup& other) {
  objects.add(other.objects);
  bytes.add(other.bytes);
  shared_objects.add(other.shared_objects);
  shared_bytes.add(other.shared_bytes);
  estimated = estimated || other.estimated;
  samples += other.samples;
  smallest = std::min(smallest, other.smallest);
  largest = std::max(largest, other.largest);
  oldest_ns = std::min(oldest_ns, other.oldest_ns);
  newest_ns = std::max(newest_ns, other.newest_ns);
  for (const auto& [cache, count] : other.caches) {
    caches[cache] += count;
  }
}

CacheNames cache_names_of(const Snapshot& snapshot) {
  CacheNames names;
  for (const Cache& cache : snapshot.caches) {
    names.emplace(cache.id, printable_utf8(cache.label()));
  }
  return names;
}

std::vector<std::string> cache_names(const std::unordered_map<uint32_t, double>& objects,
                                     const CacheNames& names) {
  std::vector<std::pair<double, std::string>> ordered;
  for (const auto& [id, count] : objects) {
    const auto name = names.find(id);
    ordered.emplace_back(-count,
                         name != names.end() ? name->second : "cache " + std::to_string(id));
  }
  std::sort(ordered.begin(), ordered.end());
  std::vector<std::string> result;
  for (auto& [count, name] : ordered) {
    if (std::find(result.begin(), result.end(), name) == result.end()) {
      result.push_back(std::move(name));
    }
  }
  return result;
}

void HeapGroups::add(const LiveObject& object) {
  const double weight = object_weight(object.size, object.interval);
  const double size = static_cast<double>(object.size);
  const double spread = weight * (weight - 1);
  const Estimate objects = {weight, spread};
  const Estimate bytes = {weight * size, spread * size * size};
  HeapGroup& group = groups_[object.stack];
  group.objects.add(objects);
  group.bytes.add(bytes);
  group.estimated = group.estimated || object.interval > 1;
  ++group.samples;
  group.smallest = std::min(group.smallest, object.size);
  group.largest = std::max(group.largest, object.size);
  group.oldest_ns = std::min(group.oldest_ns, object.when_monotonic_ns);
  group.newest_ns = std::max(group.newest_ns, object.when_monotonic_ns);
  group.caches[object.cache] += weight;
  newest_ns_ = std::max(newest_ns_, object.when_monotonic_ns);
  if (object.interval <= 1) {
    return;  // no error to be shared
  }
  const Sample sample{object.address, object.when_monotonic_ns};
  if (remember_ == Remember::kYes) {
    samples_.insert(sample);
  }
  if (earlier_ != nullptr && earlier_->samples_.contains(sample)) {
    group.shared_objects.add(objects);
    group.shared_bytes.add(bytes);
  }
}

Result<HeapReading> read_heap(const std::string& path, HeapGroups groups) {
  Result<OpenScope> scope = open_scope(path);
  if (!scope) {
    return scope.failure();
  }
  // The objects first: a stack that one of them names is then in the depot when that is read.
  visit_objects(scope->reader, scope->header.sections[abi::kSectionObjects],
                [&](const abi::ObjectRecord& record) {
                  groups.add({record.address, record.size, record.when_monotonic_ns, record.stack,
                              record.interval, record.cache});
                });
  Result<Snapshot> snapshot = attach(path, Include::kModules | Include::kStacks);
  if (!snapshot) {
    return snapshot.failure();
  }
  return HeapReading{std::move(*snapshot), std::move(groups), 0};
}

HeapReading heap_reading(const Snapshot& snapshot, HeapGroups groups) {
  for (const LiveObject& object : snapshot.objects) {
    groups.add(object);
  }
  return {snapshot, std::move(groups), 0};
}

}  // namespace slabscope
