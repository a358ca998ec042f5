// SPDX-License-Identifier: MIT
//
// SLABSCOPE_GROUP_BY: groups for programs that know nothing of groups.
//
//   thread's first allocation, its first slow-path visits, then one in 64 ─► its name ─► join
//
// The name is asked of the kernel, which is the only one to know: one system call a look. Nothing
// of libc is interposed, so a thread that is renamed is seen at its next look.

#pragma once

#include "slab/base/hooks.h"

namespace slabscope {

// Makes the calling thread's group that of its name, if the option says so. Called when a thread
// starts to allocate.
void group_by_start();

void group_by_install(Hooks& hooks);

}  // namespace slabscope
