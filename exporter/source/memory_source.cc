// SPDX-License-Identifier: MIT

#include "exporter/source/memory_source.h"

#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>

#include "exporter/base/text.h"
#include "exporter/base/whole_file.h"

namespace slabscope {
namespace {

template <typename T>
bool parse(std::string_view text, T& value, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

std::optional<Mapping> parse_mapping(std::string_view line) {
  Mapping mapping;
  std::string_view range = next_field(line, ' ');
  const std::string_view rights = next_field(line, ' ');
  next_field(line, ' ');
  std::string_view device = next_field(line, ' ');
  const std::string_view inode = next_field(line, ' ');
  unsigned major_number = 0;
  unsigned minor_number = 0;
  if (!parse(next_field(range, '-'), mapping.begin, 16) || !parse(range, mapping.end, 16) ||
      mapping.begin >= mapping.end || rights.size() < 4 ||
      !parse(next_field(device, ':'), major_number, 16) || !parse(device, minor_number, 16) ||
      !parse(inode, mapping.file.inode, 10)) {
    return std::nullopt;
  }
  mapping.file.device = makedev(major_number, minor_number);
  mapping.readable = rights[0] == 'r';
  mapping.writable = rights[1] == 'w';
  mapping.executable = rights[2] == 'x';
  mapping.shared = rights[3] == 's';
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  mapping.path = line;
  return mapping;
}

size_t ProcessMemory::read(uint64_t address, void* into, size_t bytes) const {
  size_t done = 0;
  while (done < bytes) {
    const iovec local = {static_cast<char*>(into) + done, bytes - done};
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an address of another process.
    const iovec remote = {reinterpret_cast<void*>(address + done), bytes - done};
    const ssize_t got = process_vm_readv(pid_, &local, 1, &remote, 1, 0);
    if (got <= 0) {
      break;
    }
    done += static_cast<size_t>(got);
  }
  return done;
}

// By /proc/PID/pagemap: a page that is neither present nor swapped out was never written.
std::vector<MemorySource::Part> ProcessMemory::touched(uint64_t begin, uint64_t end) const {
  constexpr size_t kPagesAtOnce = 16384;
  constexpr uint64_t kThere = uint64_t{3} << 62;
  std::ifstream file("/proc/" + std::to_string(pid_) + "/pagemap", std::ios::binary);
  if (!file || sysconf(_SC_PAGESIZE) != static_cast<long>(kPage)) {
    return {{begin, end}};
  }
  std::vector<Part> parts;
  std::vector<uint64_t> entries;
  for (uint64_t page = begin / kPage; page * kPage < end;) {
    entries.assign(std::min<uint64_t>(kPagesAtOnce, (end - page * kPage + kPage - 1) / kPage), 0);
    file.seekg(static_cast<std::streamoff>(page * sizeof(uint64_t)));
    file.read(reinterpret_cast<char*>(entries.data()),
              static_cast<std::streamsize>(entries.size() * sizeof(uint64_t)));
    if (static_cast<size_t>(file.gcount()) != entries.size() * sizeof(uint64_t)) {
      return {{begin, end}};
    }
    for (const uint64_t entry : entries) {
      const uint64_t at = page++ * kPage;
      if ((entry & kThere) == 0) {
        continue;
      }
      if (!parts.empty() && parts.back().end == at) {
        parts.back().end = at + kPage;
      } else {
        parts.push_back({at, at + kPage});
      }
    }
  }
  if (!parts.empty()) {
    parts.front().begin = std::max(parts.front().begin, begin);
    parts.back().end = std::min(parts.back().end, end);
  }
  return parts;
}

std::vector<Mapping> parse_mappings(std::string_view text) {
  std::vector<Mapping> mappings;
  while (!text.empty()) {
    if (std::optional<Mapping> mapping = parse_mapping(next_field(text, '\n'))) {
      mappings.push_back(std::move(*mapping));
    }
  }
  std::sort(mappings.begin(), mappings.end(),
            [](const Mapping& a, const Mapping& b) { return a.begin < b.begin; });
  return mappings;
}

std::vector<Mapping> read_mappings(pid_t pid) {
  return parse_mappings(read_whole_file("/proc/" + std::to_string(pid) + "/maps").value_or(""));
}

const Mapping* mapping_of(const std::vector<Mapping>& mappings, uint64_t address) {
  const auto after = std::upper_bound(
      mappings.begin(), mappings.end(), address,
      [](uint64_t wanted, const Mapping& mapping) { return wanted < mapping.begin; });
  if (after == mappings.begin()) {
    return nullptr;
  }
  const Mapping& mapping = *std::prev(after);
  return address < mapping.end ? &mapping : nullptr;
}

}  // namespace slabscope
