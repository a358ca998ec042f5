// SPDX-License-Identifier: MIT
//
// ElfFile: one ELF file, opened without being fooled.
//
//   path ─O_PATH, inside a root─► fstat: regular? 0 < size <= limit? ─reopen─► Elf ─► build-id
//
// Invariants
//   1. Nothing but a regular file is ever opened for reading: a fifo would block, a device may act.
//   2. Below a process's root, symbolic links and ".." resolve inside that root.
//   3. Files are read, never mapped: a file that shrinks is a short read, not a SIGBUS.
//   4. Decompressed debug sections are bounded.                                (symbolize_test)
// Called from: module_files.cc, dwarf_index.cc, elf_symbols.cc.

#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct Elf;

namespace slabscope {

inline constexpr uint64_t kMaxElfBytes = uint64_t{16} << 30;
inline constexpr uint64_t kMaxDecompressedBytes = uint64_t{4} << 30;

class UniqueFd {
 public:
  explicit UniqueFd(int fd = -1) : fd_(fd) {}
  ~UniqueFd();
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

// A regular file of bounded size, for reading; `root_fd` < 0: as this process sees `path`, else as
// a process with that root directory does.
[[nodiscard]] UniqueFd open_regular(int root_fd, const std::string& path);

class ElfFile {
 public:
  // nullptr where there is no such file, or it is not ELF.
  static std::unique_ptr<ElfFile> open(int root_fd, const std::string& path);
  static std::unique_ptr<ElfFile> from_fd(UniqueFd fd, std::string path);
  static std::unique_ptr<ElfFile> from_memory(std::vector<char> image, std::string path);
  ~ElfFile();
  ElfFile(const ElfFile&) = delete;
  ElfFile& operator=(const ElfFile&) = delete;

  Elf* elf() const { return elf_; }
  const std::string& path() const { return path_; }
  const std::vector<uint8_t>& build_id() const { return build_id_; }
  int64_t modified_ns() const { return modified_ns_; }  // 0 for memory
  bool has_dwarf() const { return has_dwarf_; }         // and it may be used

  // What .gnu_debuglink and .gnu_debugaltlink (made by dwz) name; name "" where there is none.
  struct Link {
    std::string name;
    uint32_t crc = 0;
    std::vector<uint8_t> build_id;
  };
  [[nodiscard]] Link debug_link() const;
  [[nodiscard]] Link alternate_link() const;

  // The CRC that .gnu_debuglink names its file by; reads the whole file.
  [[nodiscard]] uint32_t crc32() const;

 private:
  ElfFile() = default;
  bool start(Elf* elf);
  std::span<const char> section_bytes(std::string_view name) const;
  void inspect_sections();

  UniqueFd fd_;
  std::vector<char> image_;
  Elf* elf_ = nullptr;
  std::string path_;
  std::vector<uint8_t> build_id_;
  int64_t modified_ns_ = 0;
  bool has_dwarf_ = false;
};

}  // namespace slabscope
