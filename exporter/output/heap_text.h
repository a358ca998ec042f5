// SPDX-License-Identifier: MIT
//
// heap_text: a heap profile, and what grew, as a person reads them.
//
//   server (pid 4711): 1573014 bytes in 15730 objects live
//   about 1.2M ±8% in about 12000 objects ±9% (152 samples), ..., in malloc-112, 2s to 1m30s old:
//      #0 make_node  server.c:14
//
// "±" is one standard error. What grew is "still live, growing": whether it is lost only a leak
// check can tell.

#pragma once

#include <string>

#include "exporter/analysis/heap_growth.h"
#include "exporter/analysis/heap_profile.h"
#include "exporter/output/report.h"

namespace slabscope {

[[nodiscard]] std::string heap_text(const HeapProfile& profile, const ReportOptions& options);
// Of what is reachable and older than some age alone, for the end of a leak report.
[[nodiscard]] std::string accumulated_text(const HeapGrowth& growth, uint64_t age_seconds,
                                           const ReportOptions& options);
[[nodiscard]] std::string growth_text(const HeapGrowth& growth, const ReportOptions& options);

}  // namespace slabscope
