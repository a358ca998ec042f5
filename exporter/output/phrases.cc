// SPDX-License-Identifier: MIT

#include "exporter/output/phrases.h"

#include <fmt/format.h>

#include <ctime>

#include "exporter/base/clock.h"
#include "exporter/base/text.h"

namespace slabscope {
namespace {

constexpr uint64_t kExactBelow = 10240;  // bytes

}  // namespace

std::string counted(uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string bytes_text(uint64_t bytes) {
  return bytes < kExactBelow ? counted(bytes, "byte")
                             : fmt::format("{} bytes ({})", bytes, human_bytes(bytes));
}

std::string switches_text(uint32_t switches) {
  return switches == 0 ? ""
                       : fmt::format(
                             " (switched {} at run time: objects allocated meanwhile have "
                             "the stacks of their time, or none)",
                             switches == 1 ? "once" : counted(switches, "time"));
}

std::string date_text(uint64_t realtime_ns) {
  const auto seconds = static_cast<time_t>(realtime_ns / kSecondNs);
  std::tm parts{};
  if (gmtime_r(&seconds, &parts) == nullptr) {
    return "?";
  }
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string duration_text(uint64_t ns) {
  return ns < 10 * kSecondNs ? fmt::format("{}.{:03}s", ns / kSecondNs, ns % kSecondNs / 1'000'000)
                             : human_duration(ns / kSecondNs);
}

}  // namespace slabscope
