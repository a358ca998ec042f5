// SPDX-License-Identifier: MIT
//
// HeapGroups: the tracked objects of one process, added up stack by stack as they are read.
//
//   object table ─► add() ─► Group a stack handle: sums, variances, ages, caches
//
// A sampled object of s bytes was taken with p = 1 - exp(-s / interval), independently of the
// others, and stands for w = 1 / p. So for the objects (y = 1) and for the bytes (y = s) of a stack
//   estimate  = sum of w * y            unbiased, whatever sizes are mixed
//   variance  = sum of w * (w - 1) * y² unbiased likewise; its root is the standard error
// An object that is certainly taken (w = 1) adds nothing to the variance.     (heap_profile_test)
// Invariant: memory follows the number of stacks, and with Remember::kYes that of the samples;
// never that of the objects of a process that tracks them all.
// Called from: heap_profile.cc, heap_growth.cc.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "exporter/base/result.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

// An amount that may be an estimate.
struct Estimate {
  double value = 0;
  double variance = 0;  // 0: exact

  void add(const Estimate& other) {
    value += other.value;
    variance += other.variance;
  }
  double standard_error() const;
};

struct HeapGroup {
  Estimate objects;
  Estimate bytes;
  Estimate shared_objects;  // the part of both that was there at an earlier look already
  Estimate shared_bytes;
  bool estimated = false;
  uint64_t samples = 0;  // tracked objects
  uint64_t smallest = UINT64_MAX;
  uint64_t largest = 0;
  uint64_t oldest_ns = UINT64_MAX;  // CLOCK_MONOTONIC of its allocation
  uint64_t newest_ns = 0;
  std::unordered_map<uint32_t, double> caches;  // objects by cache id

  void add(const HeapGroup& other);
};

// Names of caches by id, fit to print.
using CacheNames = std::unordered_map<uint32_t, std::string>;
[[nodiscard]] CacheNames cache_names_of(const Snapshot& snapshot);

// The names of the caches that `objects` (a number by cache id) lie in, most objects first; each
// name once.
[[nodiscard]] std::vector<std::string> cache_names(
    const std::unordered_map<uint32_t, double>& objects, const CacheNames& names);

class HeapGroups {
 public:
  enum class Remember { kNo, kYes };
  explicit HeapGroups(Remember remember = Remember::kNo, const HeapGroups* earlier = nullptr)
      : remember_(remember), earlier_(earlier) {}

  // Sums that were made elsewhere.
  explicit HeapGroups(std::map<uint32_t, HeapGroup> groups)
      : remember_(Remember::kNo), earlier_(nullptr), groups_(std::move(groups)) {}

  void add(const LiveObject& object);
  // By stack handle; 0: objects whose stack was not kept.
  const std::map<uint32_t, HeapGroup>& groups() const { return groups_; }
  uint64_t newest_ns() const { return newest_ns_; }

 private:
  struct Sample {
    uint64_t address;
    uint64_t when_ns;
    bool operator==(const Sample&) const = default;
  };
  struct SampleHash {
    size_t operator()(const Sample& sample) const {
      return std::hash<uint64_t>()(sample.address * 31 + sample.when_ns);
    }
  };

  Remember remember_;
  const HeapGroups* earlier_;  // of the same process, made with Remember::kYes
  std::map<uint32_t, HeapGroup> groups_;
  std::unordered_set<Sample, SampleHash> samples_;
  uint64_t newest_ns_ = 0;
};

// What a scope file says about the heap by stack: the snapshot has modules and stacks, its objects
// are in `groups`.
struct HeapReading {
  Snapshot snapshot;
  HeapGroups groups;
  uint64_t moment_ns = 0;  // CLOCK_MONOTONIC, if it is neither now nor the end
};
[[nodiscard]] Result<HeapReading> read_heap(const std::string& path,
                                            HeapGroups groups = HeapGroups());
// The same from a snapshot that holds its objects.
[[nodiscard]] HeapReading heap_reading(const Snapshot& snapshot, HeapGroups groups = HeapGroups());

}  // namespace slabscope
