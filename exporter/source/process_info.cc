// SPDX-License-Identifier: MIT

#include "exporter/source/process_info.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "exporter/base/saturating.h"
#include "exporter/base/text.h"
#include "exporter/source/memory_source.h"

namespace slabscope {
namespace {

constexpr size_t kProcFileLimit = 64 << 20;

std::string read_proc(uint32_t pid, const char* name) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string text;
  if (fd < 0) {
    return text;
  }
  constexpr size_t kStep = 64 << 10;
  for (size_t done = 0; done < kProcFileLimit;) {
    text.resize(done + kStep);
    const ssize_t got = read(fd, text.data() + done, kStep);
    done += got > 0 ? static_cast<size_t>(got) : 0;
    if (got <= 0) {
      text.resize(done);
      break;
    }
  }
  close(fd);
  return text;
}

bool parse(std::string_view text, uint64_t& value, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size();
}

bool is_hex_id(std::string_view text) {
  return text.size() >= 12 &&
         text.find_first_not_of("0123456789abcdef-_") == std::string_view::npos;
}

// The name that one component of a cgroup path gives, "" if it is no name of a service.
std::string name_of_component(std::string_view component) {
  constexpr std::string_view kService = ".service";
  constexpr std::string_view kScope = ".scope";
  if (component.ends_with(kService)) {
    component.remove_suffix(kService.size());
    const bool login = component.starts_with("user@");
    return login ? "" : std::string(component);
  }
  for (const std::string_view prefix : {"machine-", "lxc.payload.", "lxc-"}) {
    if (component.starts_with(prefix)) {
      component.remove_prefix(prefix.size());
      if (component.ends_with(kScope)) {
        component.remove_suffix(kScope.size());
      }
      return is_hex_id(component) ? "" : std::string(component);
    }
  }
  return "";
}

}  // namespace

bool is_mapped_by_its_pid(const TargetInfo& target) {
  const std::string maps = read_proc(target.pid, "maps");
  std::string_view rest = maps;
  while (!rest.empty()) {
    const std::optional<Mapping> mapping = parse_mapping(next_field(rest, '\n'));
    if (mapping && mapping->file == target.file) {
      return true;
    }
  }
  return false;
}

std::vector<MappedFile> scope_files_mapped_by(uint32_t pid) {
  const std::string maps = read_proc(pid, "maps");
  std::vector<MappedFile> files;
  for (std::string_view rest = maps; !rest.empty();) {
    const std::optional<Mapping> mapping = parse_mapping(next_field(rest, '\n'));
    if (mapping && mapping->path.ends_with(kScopeSuffix) &&
        (files.empty() || files.back().file != mapping->file)) {
      files.push_back({mapping->path, mapping->file});
    }
  }
  return files;
}

SmapsSum sum_smaps(std::string_view text, FileId id, uint64_t base, uint64_t bytes) {
  SmapsSum sum;
  bool in_window = false;
  while (!text.empty()) {
    std::string_view line = next_field(text, '\n');
    if (line.starts_with("Rss:")) {
      line.remove_prefix(4);
      line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
      uint64_t kib = 0;
      if (in_window && parse(next_field(line, ' '), kib, 10)) {
        sum.resident_bytes += kib * 1024;
      }
    } else if (const std::optional<Mapping> mapping = parse_mapping(line)) {
      const uint64_t window_end = saturating_sum(base, bytes);
      in_window = mapping->begin < window_end && mapping->end > base;
      sum.has_file = sum.has_file || mapping->file == id;
    }
  }
  return sum;
}

std::optional<uint64_t> resident_heap_bytes(const TargetInfo& target) {
  if (target.window_bytes == 0) {
    return std::nullopt;
  }
  const SmapsSum sum = sum_smaps(read_proc(target.pid, "smaps"), target.file, target.window_base,
                                 target.window_bytes);
  return sum.has_file ? std::optional(sum.resident_bytes) : std::nullopt;
}

std::string app_from_cgroup(std::string_view text) {
  while (!text.empty()) {
    std::string_view line = next_field(text, '\n');
    next_field(line, ':');
    const std::string_view controllers = next_field(line, ':');
    if (!controllers.empty() && controllers != "name=systemd") {
      continue;
    }
    std::string name;  // of the innermost component that has one
    for (std::string_view path = line; !path.empty();) {
      std::string found = name_of_component(next_field(path, '/'));
      if (!found.empty()) {
        name = std::move(found);
      }
    }
    if (!name.empty()) {
      return printable_utf8(name);
    }
  }
  return "";
}

std::string app_label(const TargetInfo& target) {
  if (!target.app.empty()) {
    return target.app;
  }
  if (target.state == TargetState::kRunning && is_mapped_by_its_pid(target)) {
    std::string name = app_from_cgroup(read_proc(target.pid, "cgroup"));
    if (!name.empty()) {
      return name;
    }
  }
  return target.comm.empty() ? "unknown" : target.comm;
}

}  // namespace slabscope
