// SPDX-License-Identifier: MIT
//
// TrackedRecords: the numbers that a test's hooks give to tracked objects. An object that is
// tracked twice, or untracked with another number than its own, is an error.

#pragma once

#include <cstdint>
#include <map>
#include <mutex>

namespace slabscope::testing {

struct TrackedRecords {
  std::mutex mutex;  // of everything here, and of what a test adds
  std::map<const void*, uint32_t> records;
  uint32_t last_record = 0;
  int errors = 0;

  // What Hooks::track returns. Under the mutex, as remove().
  uint32_t add(const void* object) {
    if (!records.emplace(object, ++last_record).second)
      ++errors;
    return last_record;
  }
  void remove(uint32_t record, const void* object) {
    const auto found = records.find(object);
    if (found == records.end() || found->second != record) {
      ++errors;
    } else {
      records.erase(found);
    }
  }
};

}  // namespace slabscope::testing
