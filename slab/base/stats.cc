// SPDX-License-Identifier: MIT

#include "slab/base/stats.h"

namespace slabscope {
namespace {

constinit HeapStats g_private_stats{};

}  // namespace

constinit HeapStats* g_heap_stats = &g_private_stats;

}  // namespace slabscope
