// SPDX-License-Identifier: MIT

#include "exporter/analysis/elf_file.h"

#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

namespace slabscope {
namespace {

int open_path(int root_fd, const std::string& path) {
  if (root_fd < 0) {
    return open(path.c_str(), O_PATH | O_CLOEXEC | O_NOCTTY);
  }
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const long fd = syscall(SYS_openat2, root_fd, path.c_str(), &how, sizeof how);
  return static_cast<int>(fd);
}

std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value & 1) != 0 ? 0xedb88320U ^ (value >> 1) : value >> 1;
    }
    table[i] = value;
  }
  return table;
}

}  // namespace

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) {
    close(fd_);
  }
}

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    UniqueFd old(fd_);
    fd_ = other.release();
  }
  return *this;
}

UniqueFd open_regular(int root_fd, const std::string& path) {
  if (path.empty() || path.front() != '/' || path.find('\0') != std::string::npos) {
    return UniqueFd();
  }
  // O_PATH touches nothing: opening a device can already have effects, so look before you open.
  const UniqueFd found(open_path(root_fd, path));
  struct stat status {};
  if (!found.valid() || fstat(found.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      status.st_size <= 0 || static_cast<uint64_t>(status.st_size) > kMaxElfBytes) {
    return UniqueFd();
  }
  const std::string again = "/proc/self/fd/" + std::to_string(found.get());
  return UniqueFd(::open(again.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
}

std::unique_ptr<ElfFile> ElfFile::open(int root_fd, const std::string& path) {
  UniqueFd fd = open_regular(root_fd, path);
  return fd.valid() ? from_fd(std::move(fd), path) : nullptr;
}

std::unique_ptr<ElfFile> ElfFile::from_fd(UniqueFd fd, std::string path) {
  elf_version(EV_CURRENT);
  std::unique_ptr<ElfFile> file(new ElfFile);
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) {
    return nullptr;
  }
  file->modified_ns_ = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
  file->fd_ = std::move(fd);
  file->path_ = std::move(path);
  return file->start(elf_begin(file->fd_.get(), ELF_C_READ, nullptr)) ? std::move(file) : nullptr;
}

std::unique_ptr<ElfFile> ElfFile::from_memory(std::vector<char> image, std::string path) {
  elf_version(EV_CURRENT);
  std::unique_ptr<ElfFile> file(new ElfFile);
  file->image_ = std::move(image);
  file->path_ = std::move(path);
  Elf* elf = elf_memory(file->image_.data(), file->image_.size());
  return file->start(elf) ? std::move(file) : nullptr;
}

ElfFile::~ElfFile() {
  if (elf_ != nullptr) {
    elf_end(elf_);
  }
}

bool ElfFile::start(Elf* elf) {
  elf_ = elf;
  GElf_Ehdr header;
  if (elf_ == nullptr || elf_kind(elf_) != ELF_K_ELF || gelf_getehdr(elf_, &header) == nullptr) {
    return false;
  }
  const void* id = nullptr;
  const ssize_t bytes = dwelf_elf_gnu_build_id(elf_, &id);
  if (bytes > 0 && bytes <= 64) {
    const auto* first = static_cast<const uint8_t*>(id);
    build_id_.assign(first, first + bytes);
  }
  inspect_sections();
  return true;
}

void ElfFile::inspect_sections() {
  size_t names = 0;
  if (elf_getshdrstrndx(elf_, &names) != 0) {
    return;
  }
  uint64_t decompressed = 0;
  bool found = false;
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_, section)) != nullptr;) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr) {
      return;
    }
    const char* text = elf_strptr(elf_, names, header.sh_name);
    const std::string_view name = text != nullptr ? text : "";
    if (header.sh_type == SHT_NOBITS) {
      continue;
    }
    found = found || name == ".debug_info" || name == ".zdebug_info";
    if (name.starts_with(".zdebug_")) {
      // The old form hides its size in the section: "ZLIB", then 8 bytes, big-endian.
      const Elf_Data* data = elf_rawdata(section, nullptr);
      if (data == nullptr || data->d_size < 12) {
        return;
      }
      uint64_t size = 0;
      for (size_t i = 4; i < 12; ++i) {
        size = size << 8 | static_cast<const uint8_t*>(data->d_buf)[i];
      }
      decompressed = size > kMaxDecompressedBytes ? UINT64_MAX / 2 : decompressed + size;
    } else if (GElf_Chdr compressed; (header.sh_flags & SHF_COMPRESSED) != 0 &&
                                     gelf_getchdr(section, &compressed) != nullptr) {
      decompressed = compressed.ch_size > kMaxDecompressedBytes ? UINT64_MAX / 2
                                                                : decompressed + compressed.ch_size;
    }
    if (decompressed > kMaxDecompressedBytes) {
      return;
    }
  }
  has_dwarf_ = found;
}

std::span<const char> ElfFile::section_bytes(std::string_view name) const {
  size_t names = 0;
  if (elf_getshdrstrndx(elf_, &names) != 0) {
    return {};
  }
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_, section)) != nullptr;) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr) {
      return {};
    }
    const char* text = elf_strptr(elf_, names, header.sh_name);
    if (header.sh_type == SHT_NOBITS || text == nullptr || name != text) {
      continue;
    }
    const Elf_Data* data = elf_rawdata(section, nullptr);
    if (data == nullptr || data->d_buf == nullptr) {
      return {};
    }
    return {static_cast<const char*>(data->d_buf), data->d_size};
  }
  return {};
}

ElfFile::Link ElfFile::debug_link() const {
  Link link;
  GElf_Word crc = 0;
  const char* name = dwelf_elf_gnu_debuglink(elf_, &crc);
  if (name != nullptr && std::strchr(name, '/') == nullptr) {
    link.name = name;
    link.crc = crc;
  }
  return link;
}

ElfFile::Link ElfFile::alternate_link() const {
  Link link;
  const std::span<const char> bytes = section_bytes(".gnu_debugaltlink");
  const auto end = std::find(bytes.begin(), bytes.end(), '\0');
  if (end != bytes.end()) {
    link.name.assign(bytes.begin(), end);
    link.build_id.assign(end + 1, bytes.end());
  }
  return link;
}

uint32_t ElfFile::crc32() const {
  static const std::array<uint32_t, 256> table = make_crc_table();
  std::vector<unsigned char> buffer(1 << 16);
  uint32_t crc = 0xffffffffU;
  off_t offset = 0;
  ssize_t got = 0;
  while ((got = pread(fd_.get(), buffer.data(), buffer.size(), offset)) > 0) {
    for (ssize_t i = 0; i < got; ++i) {
      crc = table[(crc ^ buffer[static_cast<size_t>(i)]) & 0xff] ^ (crc >> 8);
    }
    offset += got;
  }
  return ~crc;
}

}  // namespace slabscope
