// SPDX-License-Identifier: MIT
//
// The tracked objects of one cache or group, as the scope file knows them.
//
// A cache's objects are those of its children in groups too; whose child a cache is says its
// record. What is read is checked, as everything in the file.

#pragma once

#include <cstdint>

#include "diag/object_table.h"
#include "diag/scope_file.h"

namespace slabscope::diag {

struct ObjectsOf {
  enum class What : uint8_t { kCache, kGroup };
  What what;
  uint32_t number;  // the cache's id, or the group's number
};

inline bool belongs(ScopeFile& file, uint32_t cache, const ObjectsOf& owner) {
  if (owner.what == ObjectsOf::What::kCache && cache == owner.number)
    return true;
  abi::CacheRecord& record = file.caches()[cache];
  if (cache >= abi::kMaxCaches || !file.ensure(&record, sizeof(record)) || record.group == 0)
    return false;
  return (owner.what == ObjectsOf::What::kGroup ? record.group : record.parent) == owner.number;
}

// Calls visit(index, record) for each.
template <typename Visit>
void for_each_object(ScopeFile& file, const ObjectTable& objects, const ObjectsOf& owner,
                     Visit visit) {
  const uint32_t end = objects.end();
  for (uint32_t index = 1; index < end; ++index) {
    const abi::ObjectRecord* object = objects.find(index);
    if (object != nullptr && belongs(file, object->cache, owner))
      visit(index, *object);
  }
}

}  // namespace slabscope::diag
