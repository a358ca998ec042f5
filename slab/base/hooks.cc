// SPDX-License-Identifier: MIT

#include "slab/base/hooks.h"

#include <array>

#include "slab/base/config.h"

namespace slabscope {
namespace {

constinit std::array<CacheStats, Config::kLargeId + 1> g_private_cache_stats{};
constinit uint32_t g_silence = 0;

}  // namespace

constinit Hooks g_hooks = {
    .cache_created =
        [](const CacheInfo& info) {
          return info.id <= Config::kLargeId ? &g_private_cache_stats[info.id] : nullptr;
        },
    .cache_changed = [](unsigned, CacheLife) {},
    .destroy_refused = [](const RefusedDestroy&) {},
    .event = [](const HeapEvent&) {},
    .group_created = [](const GroupInfo&) { return static_cast<GroupStats*>(nullptr); },
    .group_changed = [](unsigned, GroupLife) {},
    .group_destroy_refused = [](const RefusedGroup&) {},
    .thread_renamed = []() {},
    .map_counters = [](unsigned, void*) { return false; },
    .slot_opened = [](unsigned, void*) { return true; },
    .slot_closed = [](void*) {},
    .counters_needed = [](CounterPair*) { return true; },
    .thread_started = []() {},
    .sample_distance = [](uint64_t*, size_t, uint32_t) { return kNever; },
    .sample_bytes = [](uint64_t*, uint32_t) { return kNever; },
    .capture = []() { return uint32_t{0}; },
    .track = [](const void*, size_t, size_t, unsigned, uint32_t, uint32_t) { return uint32_t{0}; },
    .untrack = [](uint32_t, const void*) {},
    .expect_untrack = [](uint32_t) {},
    .retrack = [](uint32_t record, const void*, size_t) { return record; },
    .allocation_places = [](unsigned, char*, size_t) { return size_t{0}; },
    .allocation_place = [](uint32_t, char*, size_t) { return size_t{0}; },
    .tick = [](uint32_t) {},
    .rung = []() {},
    .foreign_free = [](void*) { return false; },
    .foreign_size = [](void*) { return size_t{0}; },
};

constinit Bell g_bell = {.word = &g_silence, .heard = 0};

}  // namespace slabscope
