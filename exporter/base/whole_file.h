// SPDX-License-Identifier: MIT
//
// A whole file as text.
//
// Not by a stream: a process may end between the opening and the reading of its file in /proc, and
// std::istreambuf_iterator lets the error out as an exception, as it does for a directory.

#pragma once

#include <optional>
#include <string>

namespace slabscope {

// Nothing, and errno, if it cannot be opened or read.
[[nodiscard]] std::optional<std::string> read_whole_file(const std::string& path);

}  // namespace slabscope
