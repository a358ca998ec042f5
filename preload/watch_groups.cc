// SPDX-License-Identifier: MIT
//
// What is seen of groups: their records in the scope file, and the report when one of them cannot
// be destroyed.

#include "diag/exit_report.h"
#include "diag/remaining_report.h"
#include "diag/text.h"
#include "preload/watch.h"
#include "slab/base/clock.h"
#include "slab/base/config.h"

namespace slabscope {
namespace {

static_assert(sizeof(GroupStats) == sizeof(abi::GroupStats));
static_assert(offsetof(GroupStats, overflowed) == offsetof(abi::GroupStats, overflowed));
static_assert(Config::kMaxGroups < abi::kMaxGroups);

abi::GroupState outside_state(GroupLife life) {
  switch (life) {
    case GroupLife::kLive:
      return abi::GroupState::kLive;
    case GroupLife::kDying:
    case GroupLife::kRetiring:
      return abi::GroupState::kDying;
    case GroupLife::kOffline:
      return abi::GroupState::kOffline;
    case GroupLife::kFree:
      break;
  }
  return abi::GroupState::kUnused;
}

GroupStats* group_created(const GroupInfo& info) {
  abi::GroupRecord& record = g_watch.file.groups()[info.number];
  if (!g_watch.file.ensure(&record, sizeof(record)))
    return nullptr;
  record.stats = {};
  record.made =
      static_cast<uint32_t>(info.made == GroupMade::kByThreadName ? abi::GroupMade::kByThreadName
                                                                  : abi::GroupMade::kByProgram);
  record.first_id = info.first_id;
  record.generation = info.generation;
  record.created_monotonic_ns = monotonic_ns();
  diag::copy_text(record.name, sizeof(record.name), info.name);
  uint64_t& used = g_watch.file.header()->groups.used;
  if (used < info.number + 1U)
    __atomic_store_n(&used, info.number + 1U, __ATOMIC_RELAXED);
  return reinterpret_cast<GroupStats*>(&record.stats);
}

void group_changed(unsigned number, GroupLife life) {
  abi::GroupRecord& record = g_watch.file.groups()[number];
  if (!g_watch.file.ensure(&record, sizeof(record)))
    return;
  __atomic_store_n(&record.state, static_cast<uint32_t>(outside_state(life)), __ATOMIC_RELEASE);
}

void group_destroy_refused(const RefusedGroup& refused) {
  watch_report_remaining({.owner = {diag::ObjectsOf::What::kGroup, refused.number},
                          .name = refused.name,
                          .bytes = refused.bytes,
                          .objects = refused.objects,
                          .threads = refused.threads});
}

}  // namespace

void watch_install_groups(Hooks& hooks) {
  hooks.group_created = group_created;
  hooks.group_changed = group_changed;
  hooks.group_destroy_refused = group_destroy_refused;
}

}  // namespace slabscope
