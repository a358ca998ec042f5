// SPDX-License-Identifier: MIT
//
// Decay: what is due when the slow path looks at the clock. There is no thread of ours to do it.

#pragma once

#include <cstdint>

#include "slab/base/compiler.h"

namespace slabscope {

// How long free memory is kept before the kernel gets it back, in ms. 0: not at all.
uint32_t decay_ms();
void set_decay_ms(uint32_t ms);

// Moves the heap's clock and, if it is time, gives empty slabs and old free runs back. Any thread;
// at most one at a time does the work. Returns the time in ms (it wraps; compare differences).
uint32_t decay_tick();

// Gives back all that can be: malloc_trim(). Returns the bytes.
SC_COLD uint64_t decay_everything();

}  // namespace slabscope
