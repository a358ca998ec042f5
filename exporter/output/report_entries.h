// SPDX-License-Identifier: MIT
//
// report_entries: the part of a report that goes stack by stack.
//
//   objects, depot or check ─► a sum a stack ─► Symbolizer ─► suppressions ─► entries, with owners
//
// With a check, what is lost is looked at object by object: what a suppressed leak leads to is
// suppressed with it, as LeakSanitizer does; of the rest, each indirect leak is told the definite
// one it hangs on. Both follow the pointers once, whatever their number.
// Called from: report.cc.

#pragma once

#include <unordered_map>

#include "exporter/output/report.h"

namespace slabscope {

using StacksByHandle = std::unordered_map<uint32_t, const Stack*>;  // those with frames

// Nearest whole number; the largest for what is too large.
[[nodiscard]] uint64_t rounded(double value);

// Fills `report`'s entries and what is counted with them. `check`: null if there was none.
void add_entries(const Snapshot& snapshot, const StacksByHandle& stacks, const LeakCheck* check,
                 Symbolizer& symbolizer, const ReportOptions& options, LeakReport& report);

}  // namespace slabscope
