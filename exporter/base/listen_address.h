// SPDX-License-Identifier: MIT
//
// ListenAddress: "127.0.0.1:9464", "[::1]:0", ":9464", "9464" -> host and port.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "exporter/base/result.h"

namespace slabscope {

inline constexpr std::string_view kDefaultListen = "127.0.0.1:9464";

struct ListenAddress {
  std::string host;   // without brackets; "" in the text means every address: 0.0.0.0
  uint16_t port = 0;  // 0: the kernel chooses
};

Result<ListenAddress> parse_listen_address(std::string_view text);

// "http://[::1]:9464"
std::string url_of(const ListenAddress& address);

}  // namespace slabscope
