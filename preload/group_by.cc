// SPDX-License-Identifier: MIT

#include "preload/group_by.h"

#include <sys/prctl.h>

#include "preload/options.h"
#include "preload/watch.h"
#include "slab/base/sys.h"
#include "slab/cache/given_name.h"
#include "slab/cache/group.h"

namespace slabscope {
namespace {

constexpr size_t kNameBytes = 16;  // of a thread, with its NUL

void join_by_name() {
  char name[kNameBytes + 1] = {};
  if (sys::failed(sys::raw(SYS_prctl, PR_GET_NAME, sys::arg(name))))
    return;
  if (name[0] == '\0')
    name[0] = '_';
  for (char* c = name; *c != '\0'; ++c) {
    if (!is_name_character(*c))
      *c = '_';
  }
  g_groups.join(name);
}

}  // namespace

void group_by_start() {
  if (g_options.group_by == GroupBy::kThread)
    join_by_name();
}

void group_by_install(Hooks& hooks) {
  if (g_options.group_by == GroupBy::kThread)
    hooks.thread_renamed = join_by_name;
}

}  // namespace slabscope
