// SPDX-License-Identifier: MIT
//
// heap_tree: a heap profile seen from the root: as collapsed stacks, and as one page with a graph.
//
//   collapsed   main;load;make_node 100000         a stack a line, outermost first, live bytes
//               ─► flamegraph.pl, speedscope, inferno: whatever reads Brendan Gregg's format
//   page        an HTML file with everything in it: no network, light and dark, search, zoom
//               (exporter/web holds its parts, which the build embeds)
//
// Frame names in collapsed stacks have no ';' (it separates frames), no line breaks, and no space
// at their end (a space separates the number).                                   (heap_tree_test)

#pragma once

#include <string>
#include <string_view>

#include "exporter/analysis/heap_profile.h"

namespace slabscope {

[[nodiscard]] std::string heap_collapsed(const HeapProfile& profile);
[[nodiscard]] std::string heap_page(const HeapProfile& profile);

// The name of a frame as both show it: the function, else module+0xoffset.
[[nodiscard]] std::string frame_name(const SymbolFrame& frame);

}  // namespace slabscope
