// SPDX-License-Identifier: MIT
//
// What is seen of programs' own caches: their state in the scope file, and the report when one of
// them cannot be destroyed.
//
//   slab's object_cache.cc ──cache_changed──► CacheRecord::state
//                          └─destroy_refused─► objects marked, report to stderr or SLABSCOPE_REPORT

#include "diag/allocation_places.h"
#include "diag/exit_report.h"
#include "diag/remaining_report.h"
#include "preload/watch.h"
#include "slab/cache/object_cache.h"

namespace slabscope {
namespace {

abi::CacheState outside_state(CacheLife life) {
  switch (life) {
    case CacheLife::kLive:
      return abi::CacheState::kLive;
    case CacheLife::kDying:
    case CacheLife::kRetiring:
      return abi::CacheState::kDying;
    case CacheLife::kZombie:
      return abi::CacheState::kZombie;
    case CacheLife::kFree:
    case CacheLife::kNew:
      break;
  }
  return abi::CacheState::kUnused;
}

// Objects in use of a cache and its children.
uint64_t remaining_in_all(unsigned id) {
  const ObjectCache* cache = object_cache(id);
  return cache == nullptr ? 0 : cache->objects_in_use();
}

void tell_change(const abi::CacheRecord& record, unsigned id, CacheLife life) {
  if (record.group != 0)
    return;  // a group's child comes and goes by itself
  const bool was_seen = record.state != static_cast<uint32_t>(abi::CacheState::kUnused);
  switch (life) {
    case CacheLife::kZombie:
      watch_event(abi::EventKind::kCacheDetached, id, remaining_in_all(id));
      break;
    case CacheLife::kRetiring:
      watch_event(abi::EventKind::kCacheDestroyed, id);
      break;
    case CacheLife::kFree:  // also a cache that could not be made
      if (was_seen)
        watch_event(abi::EventKind::kCacheReleased, id);
      break;
    case CacheLife::kNew:
    case CacheLife::kLive:
    case CacheLife::kDying:
      break;
  }
}

void cache_changed(unsigned id, CacheLife life) {
  abi::CacheRecord& record = g_watch.file.caches()[id];
  if (!g_watch.file.ensure(&record, sizeof(record)))
    return;
  tell_change(record, id, life);
  __atomic_store_n(&record.state, static_cast<uint32_t>(outside_state(life)), __ATOMIC_RELEASE);
}

void destroy_refused(const RefusedDestroy& refused) {
  abi::CacheRecord& record = g_watch.file.caches()[refused.id];
  if (g_watch.file.ensure(&record, sizeof(record)))
    __atomic_store_n(&record.flags, record.flags | abi::kDestroyRefused, __ATOMIC_RELAXED);
  watch_event(abi::EventKind::kDestroyRefused, refused.id, refused.objects);
  watch_report_remaining({.owner = {diag::ObjectsOf::What::kCache, refused.id},
                          .name = refused.name,
                          .bytes = refused.object_size,
                          .objects = refused.objects,
                          .threads = 0});
}

size_t allocation_places(unsigned cache, char* text, size_t size) {
  return diag::write_allocation_places(g_watch.file, g_watch.depot, g_watch.objects, cache, text,
                                       size);
}

size_t allocation_place(uint32_t record, char* text, size_t size) {
  return diag::write_allocation_place(g_watch.file, g_watch.depot, g_watch.objects, record, text,
                                      size);
}

}  // namespace

void watch_report_remaining(const diag::RemainingIn& remaining) {
  int fd = -1;
  if (__builtin_strcmp(g_options.report, "off") != 0) {
    const bool automatic = __builtin_strcmp(g_options.report, "auto") == 0;
    fd = diag::open_report(automatic ? "stderr" : g_options.report);
  }
  // Also without a place to write to: the objects are marked.
  diag::report_remaining(fd, g_watch.file, g_watch.depot, g_watch.objects, remaining);
  diag::close_report(fd);
}

void watch_install_caches(Hooks& hooks) {
  hooks.cache_changed = cache_changed;
  hooks.destroy_refused = destroy_refused;
  hooks.allocation_places = allocation_places;
  hooks.allocation_place = allocation_place;
}

}  // namespace slabscope
