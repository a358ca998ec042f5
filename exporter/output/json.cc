// SPDX-License-Identifier: MIT

#include "exporter/output/json.h"

#include <nlohmann/json.hpp>

#include "exporter/base/text.h"
#include "exporter/output/prometheus.h"
#include "exporter/source/group_totals.h"

namespace slabscope {
namespace {

using Json = nlohmann::ordered_json;

const char* kind_name(abi::CacheKind kind) {
  switch (kind) {
    case abi::CacheKind::kMalloc:
      return "malloc";
    case abi::CacheKind::kLarge:
      return "large";
    case abi::CacheKind::kObject:
      return "object";
    case abi::CacheKind::kOwn:
      return "own";
    case abi::CacheKind::kAlias:  // listed with what it names
    case abi::CacheKind::kNone:
    case abi::CacheKind::kUnused4:
      break;
  }
  return "unknown";
}

// The metric's name without its prefix.
std::string key(const std::string& name, std::string_view kind) {
  return kind == "counter" ? name + "_total" : name;
}

}  // namespace

const char* state_name(abi::CacheState state) {
  switch (state) {
    case abi::CacheState::kLive:
      return "live";
    case abi::CacheState::kDying:
      return "dying";
    case abi::CacheState::kZombie:
      return "zombie";
    case abi::CacheState::kUnused:
      break;
  }
  return "unknown";
}

double json_seconds(uint64_t nanoseconds) {
  const uint64_t microseconds = nanoseconds / 1000;
  return static_cast<double>(microseconds) / 1e6;
}

Json target_json(const TargetInfo& target) {
  Json json;
  json["pid"] = target.pid;
  json["comm"] = target.comm;
  json["state"] = to_string(target.state);
  json["app"] = target.app;
  json["exe"] = printable_utf8(target.exe);
  json["start_time_seconds"] = json_seconds(target.start_realtime_ns);
  if (const std::optional<uint64_t> lifetime = lifetime_ns(target)) {
    json["lifetime_seconds"] = json_seconds(*lifetime);
  } else {
    json["lifetime_seconds"] = nullptr;
  }
  json["parent_pid"] = target.parent_pid;
  json["uid"] = target.uid;
  json["track"] = to_string(target.track_mode);
  json["sample_interval_bytes"] = target.sample_interval;
  json["track_switches"] = target.track_switches;
  json["shim_version"] = target.shim_version;
  json["scope_file"] = printable_utf8(target.path);
  return json;
}

Json frame_json(const SymbolFrame& frame) {
  return {{"function", frame.function}, {"file", frame.file},     {"line", frame.line},
          {"module", frame.module},     {"offset", frame.offset}, {"build_id", frame.build_id},
          {"inlined", frame.inlined}};
}

Json cache_json(const Cache& cache) {
  Json json;
  json["name"] = cache.name;
  json["group"] = cache.group_name;
  if (!cache.aliases.empty()) {
    json["aliases"] = cache.aliases;
  }
  json["kind"] = kind_name(cache.kind);
  json["state"] = state_name(cache.state);
  json["object_size_bytes"] = cache.object_size;
  json["active_objects"] = cache.active_objects();
  json["active_bytes"] = cache.active_bytes();
  json["objects"] = cache.objects();
  json["objects_per_slab"] = cache.objects_per_slab;
  json["slabs"] = cache.stats.slabs;
  json["slabs_full"] = cache.slabs_full();
  json["slabs_partial"] = cache.slabs_partial();
  json["slabs_empty"] = cache.slabs_empty();
  json["slab_size_bytes"] = cache.slab_size;
  json["free_objects_thread"] = cache.thread_free_objects();
  json["free_objects_partial"] = cache.slab_free_objects();
  json["allocations_total"] = cache.allocations;
  json["frees_total"] = cache.frees;
  json["slow_allocations_total"] = cache.stats.slow_allocations;
  json["remote_frees_total"] = cache.stats.remote_frees;
  json["slabs_grown_total"] = cache.stats.slabs_grown;
  json["slabs_released_total"] = cache.stats.slabs_released;
  json["peak_active_objects"] = cache.stats.peak_active_objects;
  return json;
}

const char* state_name(const Group& group) {
  switch (group.state) {
    case abi::GroupState::kLive:
      return group.offline() ? "offline" : "live";
    case abi::GroupState::kDying:
      return "dying";
    case abi::GroupState::kOffline:
      return "offline";
    case abi::GroupState::kUnused:
      break;
  }
  return "unknown";
}

Json group_json(const GroupTotals& totals) {
  Json json;
  json["name"] = totals.name;
  json["active_objects"] = totals.active_objects;
  json["active_bytes"] = totals.active_bytes;
  json["slabs"] = totals.slabs;
  json["allocations_total"] = totals.allocations;
  json["frees_total"] = totals.frees;
  if (totals.group == nullptr) {
    return json;
  }
  const Group& group = *totals.group;
  json["state"] = state_name(group);
  json["made"] = group.made == abi::GroupMade::kByThreadName ? "thread" : "program";
  json["threads"] = group.stats.threads;
  json["held_bytes"] = group.stats.held_bytes;
  json["limit_bytes"] = group.stats.limit_bytes;
  json["allocations_refused_total"] = group.stats.refused;
  json["threads_overflowed_total"] = group.stats.overflowed;
  return json;
}

Json process_json(const Snapshot& snapshot) {
  Json json;
  const FreeBytes free = free_bytes(snapshot);
  json["active_bytes"] = active_bytes(snapshot);
  json["free_bytes"] = {
      {"thread", free.thread}, {"partial", free.partial}, {"tail", free.tail}, {"runs", free.runs}};
  json["threads"] = live_threads(snapshot);
#define COUNTER(name, kind, unit, level, help) json[key(#name, #kind)] = snapshot.counters.name;
#include "diag/abi/counters.def"
#undef COUNTER
  return json;
}

Json snapshot_json(const Snapshot& snapshot) {
  Json json;
  json["schema"] = 1;
  json["target"] = target_json(snapshot.target);
  json["process"] = process_json(snapshot);
  json["caches"] = Json::array();
  for (const Cache& cache : snapshot.caches) {
    if (cache.ever_used()) {
      json["caches"].push_back(cache_json(cache));
    }
  }
  if (!snapshot.groups.empty()) {
    json["groups"] = Json::array();
    for (const GroupTotals& totals : group_totals(snapshot)) {
      json["groups"].push_back(group_json(totals));
    }
  }
  return json;
}

Json targets_json(const std::vector<FoundTarget>& targets) {
  Json json;
  json["schema"] = 1;
  json["targets"] = Json::array();
  for (const FoundTarget& found : targets) {
    if (found.info) {
      json["targets"].push_back(target_json(*found.info));
    } else {
      json["targets"].push_back({{"state", state_of_failure(found.failure->code)},
                                 {"scope_file", printable_utf8(found.path)},
                                 {"error", printable_utf8(found.failure->message)}});
    }
  }
  return json;
}

std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace slabscope
