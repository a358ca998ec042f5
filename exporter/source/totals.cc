// SPDX-License-Identifier: MIT

#include "exporter/source/totals.h"

#include <string_view>

namespace slabscope {
namespace {

constexpr bool is_counter(std::string_view kind) {
  return kind == "counter";
}

// Adds the rows of counters.def that only grow.
void add_counters(abi::ProcessCounters& to, const abi::ProcessCounters& from) {
#define COUNTER(name, kind, unit, level, help) \
  if constexpr (is_counter(#kind)) {           \
    to.name += from.name;                      \
  }
#include "diag/abi/counters.def"
#undef COUNTER
}

}  // namespace

CacheTotals& CacheTotals::operator+=(const CacheTotals& other) {
  allocations += other.allocations;
  frees += other.frees;
  slow_allocations += other.slow_allocations;
  remote_frees += other.remote_frees;
  slabs_grown += other.slabs_grown;
  slabs_released += other.slabs_released;
  return *this;
}

Totals& Totals::operator+=(const Totals& other) {
  add_counters(counters, other.counters);
  large_allocations += other.large_allocations;
  large_frees += other.large_frees;
  remaining_objects += other.remaining_objects;
  remaining_bytes += other.remaining_bytes;
  for (const auto& [name, cache] : other.caches) {
    caches[name] += cache;
  }
  return *this;
}

Totals totals_of(const Snapshot& snapshot) {
  Totals totals;
  add_counters(totals.counters, snapshot.counters);
  if (snapshot.target.state == TargetState::kExited) {
    totals.remaining_objects = snapshot.counters.remaining_objects;
    totals.remaining_bytes = snapshot.counters.remaining_bytes;
  }
  for (const Cache& cache : snapshot.caches) {
    if (!cache.ever_used()) {
      continue;
    }
    if (cache.kind == abi::CacheKind::kLarge) {
      totals.large_allocations += cache.allocations;
      totals.large_frees += cache.frees;
    }
    totals.caches[cache.name] += CacheTotals{cache.allocations,
                                             cache.frees,
                                             cache.stats.slow_allocations,
                                             cache.stats.remote_frees,
                                             cache.stats.slabs_grown,
                                             cache.stats.slabs_released};
  }
  return totals;
}

void Ledger::begin_scan() {
  for (auto& [key, file] : files_) {
    file.seen = false;
  }
}

void Ledger::saw(const TargetInfo& target, std::string app, Totals totals) {
  const auto [found, is_new] = files_.try_emplace(key_of(target));
  File& file = found->second;
  if (is_new) {
    file.app = std::move(app);
  }
  file.seen = true;
  if (file.folded) {
    return;
  }
  file.last = std::move(totals);
  file.dead = target.state != TargetState::kRunning;
}

void Ledger::saw_unread(FileId id) {
  for (auto found = files_.lower_bound({id, 0}); found != files_.end() && found->first.first == id;
       ++found) {
    File& file = found->second;
    file.seen = true;
    if (file.dead) {
      fold(file);
    }
  }
}

void Ledger::fold(File& file) {
  if (!file.folded) {
    ended_[file.app].sum += file.last;
    file.last = {};
    file.folded = true;
  }
}

void Ledger::end_scan(uint64_t now_s) {
  for (auto file = files_.begin(); file != files_.end();) {
    Ended& ended = ended_[file->second.app];
    ended.last_seen_s = now_s;
    if (file->second.dead && !file->second.dead_since_s) {
      file->second.dead_since_s = now_s;
    }
    if (file->second.seen) {
      ++file;
    } else {
      fold(file->second);
      file = files_.erase(file);
    }
  }
}

std::optional<std::string> Ledger::app_of(const TargetInfo& target) const {
  const auto found = files_.find(key_of(target));
  return found == files_.end() ? std::nullopt : std::optional(found->second.app);
}

std::optional<uint64_t> Ledger::dead_for(const TargetInfo& target, uint64_t now_s) const {
  const auto found = files_.find(key_of(target));
  if (found == files_.end() || !found->second.dead_since_s) {
    return std::nullopt;
  }
  return now_s - *found->second.dead_since_s;
}

void Ledger::forget_after(uint64_t now_s, uint64_t seconds) {
  std::erase_if(ended_,
                [&](const auto& entry) { return now_s - entry.second.last_seen_s > seconds; });
}

std::map<std::string, Totals> Ledger::app_totals() const {
  std::map<std::string, Totals> totals;
  for (const auto& [app, ended] : ended_) {
    totals[app] += ended.sum;
  }
  for (const auto& [key, file] : files_) {
    if (!file.folded) {
      totals[file.app] += file.last;
    }
  }
  return totals;
}

}  // namespace slabscope
