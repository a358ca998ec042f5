// SPDX-License-Identifier: MIT
//
// ScopeReader: bytes out of a scope file, never more than the file has.
//
// The file is not mapped: its owner may truncate it while we read, and a mapped page that is gone
// is a SIGBUS, where a read that comes short is a value.  Locks: probe_lock() takes a shared lock
// for the length of one system call, so that two readers never take each other for the owner.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "exporter/base/result.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

enum class LockState { kHeld, kFree };

class ScopeReader {
 public:
  static Result<ScopeReader> open(const std::string& path);

  ScopeReader(ScopeReader&& other) noexcept;
  ScopeReader& operator=(ScopeReader&& other) noexcept;
  ~ScopeReader();

  const std::string& path() const { return path_; }
  FileId file_id() const { return id_; }
  uint32_t owner() const { return owner_; }
  uint64_t file_bytes() const { return file_bytes_; }

  // Held: a process still has the file mapped.
  LockState probe_lock() const;

  // The number of bytes read: less than asked for at the end of the file or on an error.
  size_t read(uint64_t offset, void* into, size_t bytes) const;

  // Calls `visit(offset, data, bytes)` for what the file holds in [begin, end), holes left out, in
  // pieces of whole `record_bytes` counted from `begin`.  Bytes of a hole that shares a record with
  // data read as zero.
  using Visitor = std::function<void(uint64_t, const std::byte*, size_t)>;
  void visit_data(uint64_t begin, uint64_t end, uint64_t record_bytes, const Visitor& visit) const;

 private:
  explicit ScopeReader(int fd) : fd_(fd) {}

  // The first stretch of data at or after `from`; begin == end when there is none before `end`.
  struct Extent {
    uint64_t begin;
    uint64_t end;
  };
  Extent next_extent(uint64_t from, uint64_t end) const;

  int fd_ = -1;
  std::string path_;
  FileId id_;
  uint32_t owner_ = 0;
  uint64_t file_bytes_ = 0;
};

}  // namespace slabscope
