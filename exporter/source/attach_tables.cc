// SPDX-License-Identifier: MIT

#include "exporter/source/attach_tables.h"

#include <algorithm>
#include <cstring>

#include "exporter/base/text.h"

namespace slabscope {
namespace {

// The records to look at: what is in use, one more for writers that count from 1, never more than
// there is room for.
uint64_t records_used(const abi::Section& section, uint64_t layout_limit) {
  const uint64_t limit = std::min<uint64_t>(section.limit, layout_limit);
  return section.used >= limit ? limit : section.used + 1;
}

template <typename Record>
std::vector<Record> read_records(const ScopeReader& reader, const abi::Section& section,
                                 uint64_t layout_limit) {
  std::vector<Record> records(records_used(section, layout_limit));
  const size_t got = reader.read(section.offset, records.data(), records.size() * sizeof(Record));
  records.resize(got / sizeof(Record));
  return records;
}

template <size_t N>
std::string bounded_name(const char (&field)[N]) {
  return printable_utf8(std::string_view(field, strnlen(field, N)));
}

Cache cache_of(uint32_t id, const abi::CacheRecord& record) {
  Cache cache;
  cache.id = id;
  cache.state = static_cast<abi::CacheState>(record.state);
  cache.kind = static_cast<abi::CacheKind>(record.kind);
  cache.flags = record.flags;
  cache.object_size = record.object_size;
  cache.align = record.align;
  cache.slab_size = record.slab_size;
  cache.objects_per_slab = record.objects_per_slab;
  cache.parent = record.parent;
  cache.group = record.group;
  cache.generation = record.generation;
  cache.created_monotonic_ns = record.created_monotonic_ns;
  cache.name = bounded_name(record.name);
  if (cache.name.empty()) {
    cache.name = "cache-" + std::to_string(id);
  }
  cache.stats = record.stats;
  return cache;
}

void add_alias(std::vector<Cache>& caches, const abi::CacheRecord& record) {
  const auto found = std::find_if(caches.begin(), caches.end(),
                                  [&](const Cache& cache) { return cache.id == record.parent; });
  if (found != caches.end()) {
    found->aliases.push_back(bounded_name(record.name));
  }
}

// A stretch of cache ids that one read fetches.
struct IdRange {
  uint32_t first;
  uint32_t last;
};

// The ids in use, nearby ones joined: a page's worth of counters costs less than a system call.
std::vector<IdRange> id_ranges(const std::vector<Cache>& caches) {
  constexpr uint32_t kNearIds = abi::kPageBytes / sizeof(abi::CounterPair);
  std::vector<IdRange> ranges;
  for (const Cache& cache : caches) {
    if (!ranges.empty() && cache.id - ranges.back().last <= kNearIds) {
      ranges.back().last = cache.id;
    } else {
      ranges.push_back({cache.id, cache.id});
    }
  }
  return ranges;
}

// Where a slot keeps its counts of the cache `id`.
uint64_t counter_offset(uint32_t id) {
  return offsetof(abi::ThreadSlot, counters) + uint64_t{id} * sizeof(abi::CounterPair);
}

constexpr size_t kSlotHeadBytes = offsetof(abi::ThreadSlot, reserved);

struct SlotHead {
  uint32_t state;
  uint32_t tid;
  uint64_t started_monotonic_ns;
  char name[16];
  uint64_t generation;
};
static_assert(sizeof(SlotHead) == kSlotHeadBytes);

// Adds the counts of the slot at `slot` to the caches and to `thread`.
void add_counts(const ScopeReader& reader, uint64_t slot, const std::vector<IdRange>& ranges,
                std::vector<abi::CounterPair>& buffer, std::vector<Cache>& caches, Thread& thread) {
  size_t next = 0;  // caches are sorted by id, and the ranges cover them in order
  for (const IdRange& range : ranges) {
    buffer.assign(range.last - range.first + 1, {});
    reader.read(slot + counter_offset(range.first), buffer.data(),
                buffer.size() * sizeof(abi::CounterPair));
    for (; next < caches.size() && caches[next].id <= range.last; ++next) {
      const abi::CounterPair& pair = buffer[caches[next].id - range.first];
      caches[next].allocations += pair.allocs;
      caches[next].frees += pair.frees;
      thread.allocations += pair.allocs;
      thread.frees += pair.frees;
    }
  }
}

}  // namespace

std::vector<Cache> read_caches(const ScopeReader& reader, const abi::Section& section) {
  std::vector<Cache> caches;
  const auto records = read_records<abi::CacheRecord>(reader, section, abi::kMaxCaches);
  for (size_t id = 1; id < records.size(); ++id) {
    const abi::CacheRecord& record = records[id];
    const bool known = record.state <= static_cast<uint32_t>(abi::CacheState::kZombie) &&
                       record.kind <= static_cast<uint32_t>(abi::CacheKind::kOwn);
    if (record.state != 0 && known) {
      caches.push_back(cache_of(static_cast<uint32_t>(id), record));
    }
  }
  for (const abi::CacheRecord& record : records) {
    if (record.state != 0 && record.kind == static_cast<uint32_t>(abi::CacheKind::kAlias)) {
      add_alias(caches, record);
    }
  }
  return caches;
}

std::vector<Group> read_groups(const ScopeReader& reader, const abi::Section& section,
                               std::vector<Cache>& caches) {
  std::vector<Group> groups;
  const auto records = read_records<abi::GroupRecord>(reader, section, abi::kMaxGroups);
  std::vector<std::string> names(abi::kMaxGroups);
  for (size_t number = 1; number < records.size(); ++number) {
    const abi::GroupRecord& record = records[number];
    if (record.state == 0 || record.state > static_cast<uint32_t>(abi::GroupState::kOffline)) {
      continue;
    }
    Group group;
    group.number = static_cast<uint32_t>(number);
    group.state = static_cast<abi::GroupState>(record.state);
    group.made = record.made == static_cast<uint32_t>(abi::GroupMade::kByThreadName)
                     ? abi::GroupMade::kByThreadName
                     : abi::GroupMade::kByProgram;
    group.generation = record.generation;
    group.created_monotonic_ns = record.created_monotonic_ns;
    group.name = bounded_name(record.name);
    group.stats = record.stats;
    names[number] = group.name;
    groups.push_back(std::move(group));
  }
  for (Cache& cache : caches) {
    if (cache.group != 0) {
      const bool known = cache.group < names.size() && !names[cache.group].empty();
      cache.group_name = known ? names[cache.group] : "group-" + std::to_string(cache.group);
    }
  }
  return groups;
}

std::vector<Thread> read_threads(const ScopeReader& reader, const abi::Section& section,
                                 std::vector<Cache>& caches) {
  const std::vector<IdRange> ranges = id_ranges(caches);
  const uint64_t slots = records_used(section, abi::kMaxThreads);
  std::vector<abi::CounterPair> buffer;
  std::vector<Thread> threads;
  for (uint64_t i = 0; i < slots; ++i) {
    const uint64_t offset = section.offset + i * abi::kThreadSlotBytes;
    SlotHead head{};
    if (reader.read(offset, &head, sizeof(head)) < sizeof(head)) {
      break;
    }
    if (head.state == 0 || head.state > static_cast<uint32_t>(abi::ThreadState::kEnded)) {
      continue;
    }
    Thread thread;
    thread.slot = static_cast<uint32_t>(i);
    thread.state = static_cast<abi::ThreadState>(head.state);
    thread.tid = head.tid;
    thread.started_monotonic_ns = head.started_monotonic_ns;
    thread.generation = head.generation;
    thread.name = bounded_name(head.name);
    add_counts(reader, offset, ranges, buffer, caches, thread);
    threads.push_back(std::move(thread));
  }
  return threads;
}

std::vector<Module> read_modules(const ScopeReader& reader, const abi::Section& modules,
                                 const abi::Section& strings) {
  const auto text = read_records<char>(reader, strings, abi::kStringsBytes);
  std::vector<Module> found;
  for (const auto& record : read_records<abi::ModuleRecord>(reader, modules, abi::kMaxModules)) {
    if (record.state != 1 || record.start >= record.end || record.path >= text.size()) {
      continue;
    }
    Module module;
    module.start = record.start;
    module.end = record.end;
    module.bias = record.bias;
    const char* path = text.data() + record.path;
    module.path.assign(path, strnlen(path, text.size() - record.path));
    const size_t id_bytes = std::min<size_t>(record.build_id_bytes, sizeof(record.build_id));
    module.build_id.assign(record.build_id, record.build_id + id_bytes);
    module.loaded_generation = record.loaded_generation;
    module.unloaded_generation = record.unloaded_generation;
    found.push_back(std::move(module));
  }
  return found;
}

void visit_objects(const ScopeReader& reader, const abi::Section& section,
                   const std::function<void(const abi::ObjectRecord&)>& visit) {
  const uint64_t end =
      section.offset + records_used(section, abi::kMaxObjects) * sizeof(abi::ObjectRecord);
  reader.visit_data(section.offset, end, sizeof(abi::ObjectRecord),
                    [&](uint64_t, const std::byte* data, size_t bytes) {
                      abi::ObjectRecord record;
                      for (size_t at = 0; at + sizeof(record) <= bytes; at += sizeof(record)) {
                        std::memcpy(&record, data + at, sizeof(record));
                        if (record.address != 0) {
                          visit(record);
                        }
                      }
                    });
}

}  // namespace slabscope
