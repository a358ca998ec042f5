// SPDX-License-Identifier: MIT
//
// stack_text: one symbolized stack, a line a frame.
//
//   #0 make_node  leaky.c:14
//   #1 main       leaky.c:30
//      (2 start-up frames of libc.so.6, leaky below)
//
// Of three or more frames inside the C++ library in a row the outermost is shown, which is what the
// program called. Function names are shortened to the width and aligned; paths are never cut,
// so that editors and terminals can follow them. Strings must be printable_utf8().
// Called from: report.cc, report_text.cc.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "exporter/analysis/symbolize.h"

namespace slabscope {

struct StackStyle {
  size_t width = 100;
  bool color = false;
  std::string source_root;  // left out of paths below it
};

// The index of the first frame that only starts the program or a thread; size() if there is none.
[[nodiscard]] size_t startup_begin(const std::vector<SymbolFrame>& stack);

// Who asked for an object, in a few words: the innermost frame of the program's own, and where.
[[nodiscard]] std::string site_text(const std::vector<SymbolFrame>& stack, const StackStyle& style);

// Whether a module came with the system, or is the allocator.
[[nodiscard]] bool belongs_to_system(std::string_view module_path);

[[nodiscard]] std::string stack_text(const std::vector<SymbolFrame>& stack,
                                     const StackStyle& style);

}  // namespace slabscope
