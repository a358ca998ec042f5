// SPDX-License-Identifier: MIT
//
// The C functions of slabscope.h for groups.

#include <errno.h>

#include "slab/cache/group.h"
#include "slab/slabscope.h"

namespace slabscope {
namespace {

Group* inside(slab_group* group) {
  return reinterpret_cast<Group*>(group);
}
const Group* inside(const slab_group* group) {
  return reinterpret_cast<const Group*>(group);
}

int destroy(slab_group* group, WhenBusy when_busy) {
  if (group == nullptr)
    return 0;
  uint64_t left = 0;
  const Error error = g_groups.destroy(inside(group), when_busy, &left);
  if (error != 0)
    return -error;
  return left != 0 ? 1 : 0;
}

}  // namespace
}  // namespace slabscope

using slabscope::g_groups;
using slabscope::Group;
using slabscope::GroupLife;
using slabscope::inside;

extern "C" {

SC_EXPORT slab_group* slab_group_create(const char* name) {
  slabscope::Error error = 0;
  Group* group = g_groups.create(name, &error);
  if (group == nullptr)
    errno = error;
  return reinterpret_cast<slab_group*>(group);
}

SC_EXPORT int slab_group_destroy(slab_group* group) {
  return slabscope::destroy(group, slabscope::WhenBusy::kRefuse);
}

SC_EXPORT int slab_group_destroy_detach(slab_group* group) {
  return slabscope::destroy(group, slabscope::WhenBusy::kDetach);
}

SC_EXPORT void slab_group_enter(slab_group* group) {
  g_groups.enter(inside(group));
}

SC_EXPORT void slab_group_leave() {
  g_groups.leave();
}

SC_EXPORT int slab_group_set_limit(slab_group* group, size_t bytes,
                                   int (*on_limit)(slab_group* group, size_t wanted)) {
  if (group == nullptr || inside(group)->life() != GroupLife::kLive)
    return -EINVAL;
  // The handle of C is the Group itself.
  inside(group)->set_limit(bytes, reinterpret_cast<Group::OnLimit>(on_limit));
  return 0;
}

SC_EXPORT const char* slab_group_name(const slab_group* group) {
  return inside(group)->name();
}

SC_EXPORT int slab_group_get_stats(const slab_group* group, slab_group_stats* stats) {
  if (group == nullptr || inside(group)->life() == GroupLife::kFree)
    return -EINVAL;
  const Group::InUse in_use = inside(group)->in_use();
  const slabscope::GroupStats& kept = inside(group)->stats();
  *stats = {.active_objects = in_use.objects,
            .active_bytes = in_use.bytes,
            .held_bytes = inside(group)->held_bytes(),
            .limit_bytes = slabscope::stat_get(kept.limit_bytes),
            .threads = inside(group)->threads(),
            .allocations_refused = slabscope::stat_get(kept.refused)};
  return 0;
}

}  // extern "C"
