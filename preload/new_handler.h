// SPDX-License-Identifier: MIT
//
// Calling a new-handler that may throw where nothing may be thrown.

#pragma once

#include <new>

namespace slabscope {

// Runs `handler`; false if it threw. What it threw is gone.
[[nodiscard]] bool handler_returned(std::new_handler handler);

}  // namespace slabscope
