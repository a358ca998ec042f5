// SPDX-License-Identifier: MIT
//
// heap_layout: tells tools how to walk the heap from outside (diag/abi/heap_layout.h).
//
// The one place that knows both slab's types and the published form. Called once, when the scope
// file is opened.

#pragma once

#include <cstdint>

namespace slabscope {

// Fills the description and returns its address, for the header of the scope file.
uint64_t heap_layout_publish();

}  // namespace slabscope
