// SPDX-License-Identifier: MIT
//
// report_options: how a report looks on the descriptor it goes to.
//
// A terminal gets its width, colour (unless $NO_COLOR is set) and, on standard error, a progress
// line once symbolizing has taken a second; a pipe or file gets plain text.
// Called from: commands/report.cc, commands/run.cc.

#pragma once

#include "exporter/output/report.h"

namespace slabscope {

[[nodiscard]] ReportOptions report_options_for(int fd);

// Removes the progress line, if one was written. Call it after build_report().
void end_progress();

}  // namespace slabscope
