// SPDX-License-Identifier: MIT
//
// MemorySource: bytes of another process by address; MemoryMap: what lies where in it.
//
//   /proc/PID/maps ─► read_mappings() ─► Mapping[]
//   ProcessMemory  ─► process_vm_readv, never more than asked for; a hole ends the read
//
// Everything read is hostile: an address from there is only ever used to read again. Tests give
// bytes of their own.

#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "exporter/source/snapshot.h"

namespace slabscope {

class MemorySource {
 public:
  virtual ~MemorySource() = default;

  // The number of bytes that could be read from `address` on, in one piece.
  virtual size_t read(uint64_t address, void* into, size_t bytes) const = 0;

  // The parts of [begin, end) that hold anything: pages that were never touched are left out where
  // that can be told.
  struct Part {
    uint64_t begin;
    uint64_t end;
  };
  virtual std::vector<Part> touched(uint64_t begin, uint64_t end) const { return {{begin, end}}; }

  // A value of a plain type, or nothing if some byte of it cannot be read.
  template <typename T>
  std::optional<T> value(uint64_t address) const {
    T result{};
    if (read(address, &result, sizeof(result)) != sizeof(result)) {
      return std::nullopt;
    }
    return result;
  }
};

class ProcessMemory : public MemorySource {
 public:
  explicit ProcessMemory(pid_t pid) : pid_(pid) {}
  size_t read(uint64_t address, void* into, size_t bytes) const override;
  std::vector<Part> touched(uint64_t begin, uint64_t end) const override;

 private:
  pid_t pid_;
};

inline constexpr uint64_t kPage = 4096;  // bytes

// One line of /proc/PID/maps.
struct Mapping {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool readable = false;
  bool writable = false;
  bool executable = false;
  bool shared = false;
  FileId file;       // inode 0: no file
  std::string path;  // as the kernel writes it: "", "[stack]", a file's name
};

// "7f00-7f10 rw-p 00000000 00:19 1234   /path"; nothing for other lines.
std::optional<Mapping> parse_mapping(std::string_view line);
// Sorted by address; malformed lines are left out.
std::vector<Mapping> parse_mappings(std::string_view text);
// Empty when /proc does not say.
std::vector<Mapping> read_mappings(pid_t pid);

// The mapping that holds `address`, or null.
const Mapping* mapping_of(const std::vector<Mapping>& mappings, uint64_t address);

}  // namespace slabscope
