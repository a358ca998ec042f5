// SPDX-License-Identifier: MIT

#include "exporter/source/attach.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "exporter/base/clock.h"
#include "exporter/base/text.h"
#include "exporter/source/attach_tables.h"

namespace slabscope {
namespace {

// The record size that this program's layout gives each section.
constexpr std::array<uint32_t, abi::kSectionCount> kRecordBytes = {
    sizeof(abi::CacheRecord),  sizeof(abi::ModuleRecord), 1, 8,
    sizeof(abi::ObjectRecord), abi::kThreadSlotBytes};
constexpr std::array<const char*, abi::kSectionCount> kSectionNames = {
    "caches", "modules", "strings", "stacks", "objects", "threads"};

template <size_t N>
std::string bounded(const char (&field)[N]) {
  return std::string(field, strnlen(field, N));
}

Failure not_ready(const std::string& path) {
  return {ErrorCode::kNotReady, path + ": its process is still setting it up; try again"};
}

Failure other_version(const std::string& path, uint32_t version) {
  return {ErrorCode::kVersionMismatch,
          path + ": written in layout version " + std::to_string(version) +
              ", this slabscope reads " + std::to_string(abi::kVersion) +
              "; use the slabscope that was built with that libslabscope.so"};
}

bool all_zero(const abi::Header& header, size_t bytes) {
  const auto* data = reinterpret_cast<const unsigned char*>(&header);
  return std::all_of(data, data + bytes, [](unsigned char byte) { return byte == 0; });
}

Result<abi::Header> read_header(const ScopeReader& reader) {
  const std::string& path = reader.path();
  abi::Header header{};
  const size_t got = reader.read(0, &header, sizeof(header));
  if (all_zero(header, got)) {
    return not_ready(path);
  }
  if (std::memcmp(&header.magic, &abi::kMagic, std::min(got, sizeof(header.magic))) != 0) {
    return Failure{ErrorCode::kBadMagic, path + ": not a scope file"};
  }
  if (got < offsetof(abi::Header, layout_hash)) {
    return Failure{ErrorCode::kTruncated, path + ": cut off within its header; remove it"};
  }
  if (header.version != abi::kVersion) {
    return other_version(path, header.version);
  }
  if (got < sizeof(header)) {
    return Failure{ErrorCode::kTruncated, path + ": cut off within its header; remove it"};
  }
  if (header.header_bytes != sizeof(header) || header.layout_hash != abi::kLayoutHash) {
    return Failure{ErrorCode::kVersionMismatch,
                   path + ": layout version " + std::to_string(header.version) +
                       ", but of another build; use the slabscope that was built with that "
                       "libslabscope.so"};
  }
  return header;
}

// Nothing when every section lies inside the file and has the shape that this program knows.
std::optional<Failure> check_sections(const ScopeReader& reader, const abi::Header& header) {
  const std::string& path = reader.path();
  if (header.file_bytes > reader.file_bytes()) {
    return Failure{ErrorCode::kTruncated, path + ": has " + std::to_string(reader.file_bytes()) +
                                              " bytes, its header says " +
                                              std::to_string(header.file_bytes) + "; remove it"};
  }
  const auto fits = [&](const abi::Section& section, uint32_t record_bytes) {
    const bool inside = section.offset >= sizeof(header) && section.offset % 8 == 0 &&
                        section.offset <= reader.file_bytes() &&
                        section.bytes <= reader.file_bytes() - section.offset;
    return inside && section.record_bytes == record_bytes &&
           section.limit <= section.bytes / section.record_bytes;
  };
  const char* bad = nullptr;
  for (size_t i = 0; i < abi::kSectionCount; ++i) {
    if (bad == nullptr && !fits(header.sections[i], kRecordBytes[i])) {
      bad = kSectionNames[i];
    }
  }
  if (bad == nullptr && !fits(header.groups, sizeof(abi::GroupRecord))) {
    bad = "groups";
  }
  if (bad == nullptr && !fits(header.events, sizeof(abi::EventRecord))) {
    bad = "events";
  }
  if (bad == nullptr && !fits(header.peaks, abi::kPeakRecordBytes)) {
    bad = "peaks";
  }
  if (bad != nullptr) {
    return Failure{ErrorCode::kCorrupt,
                   path + ": corrupt, its section of " + bad + " does not fit the file; remove it"};
  }
  return std::nullopt;
}

TargetState state_of(const abi::Header& header, LockState lock) {
  if (header.state == static_cast<uint32_t>(abi::ProcessState::kExited)) {
    return TargetState::kExited;
  }
  return lock == LockState::kHeld ? TargetState::kRunning : TargetState::kDied;
}

TargetInfo info_of(const ScopeReader& reader, const abi::Header& header, LockState lock) {
  TargetInfo info;
  info.path = reader.path();
  info.file = reader.file_id();
  info.state = state_of(header, lock);
  info.locked = lock == LockState::kHeld;
  info.pid = header.pid;
  info.parent_pid = header.parent_pid;
  info.uid = header.uid;
  info.comm = printable_utf8(bounded(header.comm));
  info.app = printable_utf8(bounded(header.app));
  info.exe = bounded(header.exe);
  info.shim_version = printable_utf8(bounded(header.shim_version));
  info.start_realtime_ns = header.start_realtime_ns;
  info.start_monotonic_ns = header.start_monotonic_ns;
  info.end_monotonic_ns = header.end_monotonic_ns;
  info.track_mode =
      static_cast<abi::TrackMode>(std::min(header.track_mode, uint32_t{3}));  // 3: "unknown"
  info.sample_interval = header.sample_interval;
  info.track_switches = header.track_switches;
  info.heap_ready = header.heap_ready;
  info.window_base = header.window_base;
  info.window_bytes = header.window_bytes;
  info.heap_layout = header.heap_layout;
  info.read_monotonic_ns = monotonic_ns();
  return info;
}

}  // namespace

Result<OpenScope> open_scope(const std::string& path) {
  Result<ScopeReader> reader = ScopeReader::open(path);
  if (!reader) {
    return reader.failure();
  }
  // The lock first: a process that ends between the two reads has then written its end state.
  const LockState lock = reader->probe_lock();
  Result<abi::Header> header = read_header(*reader);
  if (!header) {
    return header.failure();
  }
  if (std::optional<Failure> failure = check_sections(*reader, *header)) {
    return *failure;
  }
  if (header->state == static_cast<uint32_t>(abi::ProcessState::kNone)) {
    return not_ready(path);
  }
  if (header->state > static_cast<uint32_t>(abi::ProcessState::kExited)) {
    return Failure{ErrorCode::kCorrupt, path + ": corrupt, unknown process state; remove it"};
  }
  TargetInfo info = info_of(*reader, *header, lock);
  return OpenScope{std::move(*reader), *header, std::move(info)};
}

Result<Snapshot> attach(const std::string& path, Include include) {
  Result<OpenScope> scope = open_scope(path);
  if (!scope) {
    return scope.failure();
  }
  const ScopeReader& reader = scope->reader;
  const auto& sections = scope->header.sections;
  Snapshot snapshot;
  snapshot.target = std::move(scope->info);
  snapshot.counters = scope->header.counters;
  snapshot.caches = read_caches(reader, sections[abi::kSectionCaches]);
  snapshot.groups = read_groups(reader, scope->header.groups, snapshot.caches);
  snapshot.threads = read_threads(reader, sections[abi::kSectionThreads], snapshot.caches);
  if (includes(include, Include::kModules)) {
    snapshot.modules =
        read_modules(reader, sections[abi::kSectionModules], sections[abi::kSectionStrings]);
  }
  if (includes(include, Include::kStacks)) {
    snapshot.stacks = read_stacks(reader, sections[abi::kSectionDepot]);
  }
  if (includes(include, Include::kObjects)) {
    visit_objects(reader, sections[abi::kSectionObjects], [&](const abi::ObjectRecord& record) {
      snapshot.objects.push_back({record.address, record.size, record.when_monotonic_ns,
                                  record.stack, record.interval, record.cache});
    });
  }
  return snapshot;
}

Result<TargetInfo> attach_info(const std::string& path) {
  Result<OpenScope> scope = open_scope(path);
  if (!scope) {
    return scope.failure();
  }
  return std::move(scope->info);
}

}  // namespace slabscope
