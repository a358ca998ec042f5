// SPDX-License-Identifier: MIT

#include "exporter/base/listen_address.h"

#include <charconv>

#include "exporter/base/text.h"

namespace slabscope {
namespace {

Failure malformed(std::string_view text) {
  return {ErrorCode::kSystem, "--listen '" + printable_utf8(text) +
                                  "' is not ADDRESS:PORT, such as 127.0.0.1:9464 or [::1]:9464"};
}

}  // namespace

Result<ListenAddress> parse_listen_address(std::string_view text) {
  std::string_view host;
  std::string_view port = text;
  if (text.starts_with('[')) {
    const size_t close = text.find("]:");
    if (close == std::string_view::npos || close == 1) {
      return malformed(text);
    }
    host = text.substr(1, close - 1);
    port = text.substr(close + 2);
  } else if (const size_t colon = text.rfind(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (host.empty()) {
      host = "0.0.0.0";
    }
  } else {
    host = "127.0.0.1";
  }
  const bool brackets = text.starts_with('[');
  const bool bad_host = host.find_first_of(" \t\n/[]") != std::string_view::npos ||
                        (!brackets && host.find(':') != std::string_view::npos);
  uint16_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (bad_host || error != std::errc{} || end != port.data() + port.size()) {
    return malformed(text);
  }
  return ListenAddress{std::string(host), number};
}

std::string url_of(const ListenAddress& address) {
  const bool is_v6 = address.host.find(':') != std::string::npos;
  return "http://" + (is_v6 ? "[" + address.host + "]" : address.host) + ":" +
         std::to_string(address.port);
}

}  // namespace slabscope
