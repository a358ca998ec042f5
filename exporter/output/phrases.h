// SPDX-License-Identifier: MIT
//
// phrases: the small pieces of text that reports share.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace slabscope {

// "1 object", "2 objects".
std::string counted(uint64_t count, std::string_view noun);

// "100 bytes", "413024 bytes (403K)".
std::string bytes_text(uint64_t bytes);

// "2023-11-14 22:13:20 UTC".
std::string date_text(uint64_t realtime_ns);

// "2.500s", "1m30s".
std::string duration_text(uint64_t ns);

// What a switch of tracking at run time means for what is shown by stack; "" if there was none.
std::string switches_text(uint32_t switches);

}  // namespace slabscope
