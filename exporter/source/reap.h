// SPDX-License-Identifier: MIT
//
// reap: removes the scope file of a process that is gone.

#pragma once

#include "exporter/source/snapshot.h"

namespace slabscope {

enum class ReapResult { kRemoved, kStillUsed, kGone, kRefused };

// Only if nobody maps the file, and if its path still names the file that was looked at.
ReapResult reap(const TargetInfo& target);

}  // namespace slabscope
