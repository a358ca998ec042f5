// SPDX-License-Identifier: MIT
//
// gzip: bytes compressed in the format of RFC 1952, by zlib.

#pragma once

#include <string>
#include <string_view>

namespace slabscope {

// Throws std::bad_alloc where zlib has no memory; cannot fail otherwise.
[[nodiscard]] std::string gzip(std::string_view bytes);

}  // namespace slabscope
