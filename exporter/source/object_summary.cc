// SPDX-License-Identifier: MIT

#include "exporter/source/object_summary.h"

#include <cmath>
#include <cstring>

#include "exporter/base/clock.h"
#include "exporter/source/attach.h"
#include "exporter/source/attach_tables.h"

namespace slabscope {
namespace {

AgeBucket age_bucket(uint64_t now_ns, uint64_t when_ns) {
  const uint64_t age = now_ns > when_ns ? (now_ns - when_ns) / kSecondNs : 0;
  return age < 60 ? kUnderMinute : age < 600 ? kUnderTenMinutes : age < 3600 ? kUnderHour : kOlder;
}

}  // namespace

double object_weight(uint64_t size, uint32_t interval) {
  if (interval <= 1) {
    return 1;
  }
  // expm1 keeps the digits that 1 - exp(-x) loses for small x.
  const double bytes = static_cast<double>(size == 0 ? 1 : size);
  return -1 / std::expm1(-bytes / interval);
}

Result<ObjectSummary> summarize_objects(const std::string& path, uint64_t max_records) {
  Result<OpenScope> scope = open_scope(path);
  if (!scope) {
    return scope.failure();
  }
  const abi::Section& section = scope->header.sections[abi::kSectionObjects];
  if (section.used > max_records) {
    return Failure{ErrorCode::kSystem, path + ": too many tracked objects for a scrape"};
  }
  ObjectSummary summary;
  const uint64_t now = scope->info.read_monotonic_ns;
  visit_objects(scope->reader, section, [&](const abi::ObjectRecord& object) {
    const double bytes =
        static_cast<double>(object.size) * object_weight(object.size, object.interval);
    ++summary.records;
    summary.requested_bytes += bytes;
    summary.bytes_by_age[age_bucket(now, object.when_monotonic_ns)] += bytes;
  });
  return summary;
}

}  // namespace slabscope
