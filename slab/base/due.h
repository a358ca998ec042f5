// SPDX-License-Identifier: MIT
//
// Times in milliseconds that wrap.

#pragma once

#include <cstdint>

namespace slabscope {

// Whether `now_ms` is `decay_ms` or more after `then_ms`. The times wrap, and two threads' looks at
// the clock may cross: a little before is not a lot after.
constexpr bool is_due(uint32_t now_ms, uint32_t then_ms, uint32_t decay_ms) {
  return static_cast<int32_t>(now_ms - then_ms) >=
         static_cast<int32_t>(decay_ms < INT32_MAX ? decay_ms : INT32_MAX);
}

}  // namespace slabscope
