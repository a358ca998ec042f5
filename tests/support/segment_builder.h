// SPDX-License-Identifier: MIT
//
// SegmentBuilder: scope files for tests, valid ones and broken ones.
//
//   SegmentBuilder builder; builder.add_cache(...); builder.count(0, id, 10, 3);
//   ScopeFile file = builder.write(directory);
//   file.poke(offset, value)   file.truncate(bytes)   file.lock()
//
// The file has the layout's real size and is as sparse as the shim's: what is not set is a hole.

#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diag/abi/layout.h"

namespace slabscope::testing {

// A directory of its own for each test, removed with what is in it.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    const char* parent = std::getenv("TMPDIR");
    std::string name = std::string(parent == nullptr ? "/tmp" : parent) + "/slabscope-test-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) {
      throw std::runtime_error("mkdtemp");
    }
    path_ = name;
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() {
    for (const std::string& file : files_) {
      unlink(file.c_str());
    }
    rmdir(path_.c_str());
  }

  const std::string& path() const { return path_; }
  std::string file(std::string_view name) {
    files_.push_back(path_ + "/" + std::string(name));
    return files_.back();
  }

 private:
  std::string path_;
  std::vector<std::string> files_;
};

// A file on disk that tests may damage; its lock, once taken, lives as long as this object.
class ScopeFile {
 public:
  explicit ScopeFile(std::string path) : path_(std::move(path)) {
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd_ < 0) {
      throw std::runtime_error("cannot create " + path_);
    }
  }
  ScopeFile(ScopeFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  ScopeFile& operator=(ScopeFile&&) = delete;
  ~ScopeFile() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }

  const std::string& path() const { return path_; }
  void truncate(uint64_t bytes) { check(ftruncate(fd_, static_cast<off_t>(bytes)) == 0); }
  void lock() { check(flock(fd_, LOCK_EX | LOCK_NB) == 0); }
  void unlock() { check(flock(fd_, LOCK_UN) == 0); }
  void write(uint64_t offset, const void* data, size_t bytes) {
    check(pwrite(fd_, data, bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes));
  }
  template <typename T>
  void poke(uint64_t offset, T value) {
    write(offset, &value, sizeof(value));
  }

 private:
  static void check(bool ok) {
    if (!ok) {
      throw std::runtime_error("scope file for a test");
    }
  }

  std::string path_;
  int fd_ = -1;
};

class SegmentBuilder {
 public:
  SegmentBuilder() {
    header_.magic = abi::kMagic;
    header_.version = abi::kVersion;
    header_.header_bytes = sizeof(abi::Header);
    header_.layout_hash = abi::kLayoutHash;
    header_.file_bytes = abi::kFileBytes;
    header_.start_realtime_ns = 1'700'000'000'000'000'000;
    header_.start_monotonic_ns = 1'000'000'000;
    header_.state = static_cast<uint32_t>(abi::ProcessState::kRunning);
    header_.pid = 1234;
    header_.parent_pid = 1;
    header_.uid = getuid();
    header_.track_mode = static_cast<uint32_t>(abi::TrackMode::kAll);
    header_.sample_interval = 1;
    header_.heap_ready = 1;
    set(header_.comm, "demo");
    set(header_.shim_version, "0.1.0");
    set(header_.exe, "/usr/bin/demo");
    section(abi::kSectionCaches, abi::kCachesOffset, abi::kCachesBytes, sizeof(abi::CacheRecord));
    section(abi::kSectionModules, abi::kModulesOffset, abi::kModulesBytes,
            sizeof(abi::ModuleRecord));
    section(abi::kSectionStrings, abi::kStringsOffset, abi::kStringsBytes, 1);
    section(abi::kSectionDepot, abi::kDepotOffset, abi::kDepotBytes, 8);
    section(abi::kSectionObjects, abi::kObjectsOffset, abi::kObjectsBytes,
            sizeof(abi::ObjectRecord));
    section(abi::kSectionThreads, abi::kThreadsOffset, abi::kThreadsBytes, abi::kThreadSlotBytes);
    header_.events = {abi::kEventsOffset, abi::kEventsBytes, sizeof(abi::EventRecord),
                      abi::kMaxEvents, 0};
    header_.groups = {abi::kGroupsOffset, abi::kGroupsBytes, sizeof(abi::GroupRecord),
                      abi::kMaxGroups, 0};
    header_.peaks = {abi::kPeaksOffset, abi::kPeaksBytes, abi::kPeakRecordBytes, abi::kMaxPeaks, 0};
    add_thread("demo", abi::ThreadState::kLive);
    use(abi::kSectionStrings, 1);
    use(abi::kSectionDepot, kDepotFirstUnit);
  }

  abi::Header& header() { return header_; }
  SegmentBuilder& pid(uint32_t value) { return header_.pid = value, *this; }
  SegmentBuilder& comm(std::string_view value) { return set(header_.comm, value), *this; }
  SegmentBuilder& app(std::string_view value) { return set(header_.app, value), *this; }
  SegmentBuilder& start(uint64_t ns) { return header_.start_realtime_ns = ns, *this; }
  SegmentBuilder& exited(uint64_t at_ns) {
    header_.state = static_cast<uint32_t>(abi::ProcessState::kExited);
    header_.end_monotonic_ns = at_ns;
    return *this;
  }

  // One of malloc's caches: 16 KiB slabs, full of objects but for a tail.
  abi::CacheRecord& add_cache(uint32_t id, std::string_view name, uint32_t object_size) {
    abi::CacheRecord& record = caches_[id];
    record.state = static_cast<uint32_t>(abi::CacheState::kLive);
    record.kind = static_cast<uint32_t>(abi::CacheKind::kMalloc);
    record.object_size = object_size;
    record.align = 16;
    record.slab_size = 16384;
    record.objects_per_slab = object_size == 0 ? 0 : record.slab_size / object_size;
    set(record.name, name);
    use(abi::kSectionCaches, id + 1);
    return record;
  }

  abi::GroupRecord& add_group(uint32_t number, std::string_view name, uint64_t threads) {
    abi::GroupRecord& record = groups_[number];
    record.state = static_cast<uint32_t>(abi::GroupState::kLive);
    record.made = static_cast<uint32_t>(abi::GroupMade::kByThreadName);
    record.first_id = 120;
    record.stats.threads = threads;
    set(record.name, name);
    header_.groups.used = std::max<uint64_t>(header_.groups.used, number + 1);
    return record;
  }

  uint32_t add_thread(std::string_view name, abi::ThreadState state) {
    const auto slot = static_cast<uint32_t>(threads_.size());
    SlotHead head{};
    head.state = static_cast<uint32_t>(state);
    head.tid = header_.pid + slot;
    head.generation = 1;
    set(head.name, name);
    threads_.push_back(head);
    use(abi::kSectionThreads, slot + 1);
    return slot;
  }
  void count(uint32_t slot, uint32_t id, uint64_t allocs, uint64_t frees) {
    counts_[{slot, id}] = {allocs, frees};
  }

  uint32_t add_string(std::string_view text) {
    const auto offset = static_cast<uint32_t>(header_.sections[abi::kSectionStrings].used);
    strings_.resize(offset);
    strings_.append(text).push_back('\0');
    use(abi::kSectionStrings, strings_.size());
    return offset;
  }
  abi::ModuleRecord& add_module(std::string_view path, uint64_t start, uint64_t end) {
    abi::ModuleRecord record{};
    record.start = start;
    record.end = end;
    record.bias = start;
    record.path = add_string(path);
    record.state = 1;
    modules_.push_back(record);
    use(abi::kSectionModules, modules_.size());
    return modules_.back();
  }

  // Stores a stack and returns its handle.
  uint32_t add_stack(const std::vector<uint64_t>& frames, uint64_t live_objects,
                     uint64_t live_bytes) {
    StoredStack stack;
    stack.handle = static_cast<uint32_t>(header_.sections[abi::kSectionDepot].used);
    stack.frames = frames;
    stack.record.hash = stack.handle * 7;
    stack.record.frame_count = static_cast<uint32_t>(frames.size());
    stack.record.generation = 1;
    stack.record.live_objects = live_objects;
    stack.record.live_bytes = live_bytes;
    stack.record.estimated_live_bytes = stack.record.estimated_total_bytes = live_bytes;
    stack.record.estimated_live_milliobjects = live_objects * 1000;
    stack.record.estimated_total_milliobjects = live_objects * 1000;
    uint32_t& bucket = buckets_[stack.record.hash % abi::kDepotBuckets];
    stack.record.next = std::exchange(bucket, stack.handle);
    stacks_.push_back(stack);
    use(abi::kSectionDepot, stack.handle + abi::kStackRecordBytes / 8 + frames.size());
    return stack.handle;
  }
  abi::ObjectRecord& add_object(uint64_t address, uint64_t size, uint32_t stack, uint16_t cache) {
    abi::ObjectRecord record{};
    record.address = address;
    record.size = size;
    record.stack = stack;
    record.interval = 1;
    record.cache = cache;
    objects_.push_back(record);
    use(abi::kSectionObjects, objects_.size());
    return objects_.back();
  }

  // Writes the file under the shim's kind of name, or a given one.
  ScopeFile write(ScratchDirectory& directory, std::string name = "") const {
    if (name.empty()) {
      name = std::to_string(header_.start_realtime_ns) + "-" + std::to_string(header_.pid) +
             "-0.scope";
    }
    ScopeFile file(directory.file(name));
    file.truncate(abi::kFileBytes);
    file.poke(0, header_);
    for (const auto& [id, record] : caches_) {
      file.poke(abi::kCachesOffset + id * sizeof(record), record);
    }
    for (const auto& [number, record] : groups_) {
      file.poke(abi::kGroupsOffset + number * sizeof(record), record);
    }
    for (size_t i = 0; i < modules_.size(); ++i) {
      file.poke(abi::kModulesOffset + i * sizeof(abi::ModuleRecord), modules_[i]);
    }
    file.write(abi::kStringsOffset, strings_.data(), strings_.size());
    write_depot(file);
    for (size_t i = 0; i < objects_.size(); ++i) {
      file.poke(abi::kObjectsOffset + i * sizeof(abi::ObjectRecord), objects_[i]);
    }
    for (size_t i = 0; i < threads_.size(); ++i) {
      file.poke(abi::kThreadsOffset + i * abi::kThreadSlotBytes, threads_[i]);
    }
    for (const auto& [key, pair] : counts_) {
      file.poke(counter_offset(key.first, key.second), pair);
    }
    return file;
  }

  static uint64_t counter_offset(uint32_t slot, uint32_t id) {
    return abi::kThreadsOffset + uint64_t{slot} * abi::kThreadSlotBytes +
           offsetof(abi::ThreadSlot, counters) + id * sizeof(abi::CounterPair);
  }

 private:
  static constexpr uint32_t kDepotFirstUnit = abi::kDepotBuckets * sizeof(uint32_t) / 8;

  struct SlotHead {  // the front of abi::ThreadSlot, which is too large to copy about
    uint32_t state;
    uint32_t tid;
    uint64_t started_monotonic_ns;
    char name[16];
    uint64_t generation;
  };
  struct StoredStack {
    uint32_t handle = 0;
    abi::StackRecord record{};
    std::vector<uint64_t> frames;
  };

  template <size_t N>
  static void set(char (&field)[N], std::string_view value) {
    std::memset(field, 0, N);
    std::memcpy(field, value.data(), std::min(N, value.size()));
  }
  void section(size_t index, uint64_t offset, uint64_t bytes, uint32_t record_bytes) {
    header_.sections[index] = {offset, bytes, record_bytes,
                               static_cast<uint32_t>(bytes / record_bytes), 0};
  }
  void use(size_t index, uint64_t used) {
    header_.sections[index].used = std::max(header_.sections[index].used, used);
  }
  void write_depot(ScopeFile& file) const {
    for (const auto& [bucket, handle] : buckets_) {
      file.poke(abi::kDepotOffset + uint64_t{bucket} * sizeof(uint32_t), handle);
    }
    for (const StoredStack& stack : stacks_) {
      const uint64_t at = abi::kDepotOffset + uint64_t{stack.handle} * 8;
      file.poke(at, stack.record);
      file.write(at + abi::kStackRecordBytes, stack.frames.data(),
                 stack.frames.size() * sizeof(uint64_t));
    }
  }

  abi::Header header_{};
  std::map<uint32_t, abi::CacheRecord> caches_;
  std::map<uint32_t, abi::GroupRecord> groups_;
  std::vector<abi::ModuleRecord> modules_;
  std::string strings_;
  std::map<uint32_t, uint32_t> buckets_;
  std::vector<StoredStack> stacks_;
  std::vector<abi::ObjectRecord> objects_;
  std::vector<SlotHead> threads_;
  std::map<std::pair<uint32_t, uint32_t>, abi::CounterPair> counts_;
};

}  // namespace slabscope::testing
