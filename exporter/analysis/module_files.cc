// SPDX-License-Identifier: MIT

#include "exporter/analysis/module_files.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "exporter/base/hex.h"
#include "exporter/source/memory_source.h"

namespace slabscope {
namespace {

constexpr const char* kSystemDebugDir = "/usr/lib/debug";
constexpr size_t kMaxVdsoBytes = 1 << 20;

bool maps_file(int pid, const FileId& file) {
  const std::vector<Mapping> mappings = read_mappings(pid);
  return std::any_of(mappings.begin(), mappings.end(),
                     [&](const Mapping& mapping) { return mapping.file == file; });
}

int find_process_that_maps(const FileId& file) {
  DIR* directory = opendir("/proc");
  int result = 0;
  while (directory != nullptr && result == 0) {
    const dirent* entry = readdir(directory);
    if (entry == nullptr) {
      break;
    }
    const std::string_view name = entry->d_name;
    int pid = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (parsed.ec == std::errc() && parsed.ptr == name.data() + name.size() &&
        maps_file(pid, file)) {
      result = pid;
    }
  }
  if (directory != nullptr) {
    closedir(directory);
  }
  return result;
}

// Paths are looked up as the process saw them, then as we do.
class FileRoots {
 public:
  explicit FileRoots(const ProcessContext& context) {
    if (context.live_pid > 0) {
      const std::string root = "/proc/" + std::to_string(context.live_pid) + "/root";
      process_ = UniqueFd(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    }
  }

  // The first file of that path, in either root, that `accept` takes.
  template <typename Accept>
  std::unique_ptr<ElfFile> find(const std::string& path, Accept accept) const {
    if (process_.valid()) {
      auto file = ElfFile::open(process_.get(), path);
      if (file != nullptr && accept(*file)) {
        return file;
      }
    }
    auto file = ElfFile::open(-1, path);
    return file != nullptr && accept(*file) ? std::move(file) : nullptr;
  }

 private:
  UniqueFd process_;
};

bool is_loaded_file(const ElfFile& file, const Module& module, const ProcessContext& context) {
  if (!module.build_id.empty()) {
    return file.build_id() == module.build_id;
  }
  const bool newer = context.start_realtime_ns != 0 &&
                     file.modified_ns() > static_cast<int64_t>(context.start_realtime_ns);
  return file.build_id().empty() && !newer;
}

// Our own vdso is the target's too unless the kernel was changed in between: the build-id tells.
std::unique_ptr<ElfFile> own_vdso(const Module& module) {
  const unsigned long address = getauxval(AT_SYSINFO_EHDR);
  if (address == 0 || module.build_id.empty()) {
    return nullptr;
  }
  const char* first = reinterpret_cast<const char*>(address);  // NOLINT: the kernel's own promise
  Elf64_Ehdr header;
  std::memcpy(&header, first, sizeof header);
  const uint64_t bytes = header.e_shoff + uint64_t{header.e_shnum} * header.e_shentsize;
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || bytes > kMaxVdsoBytes) {
    return nullptr;
  }
  auto file = ElfFile::from_memory(std::vector<char>(first, first + bytes), module.path);
  return file != nullptr && file->build_id() == module.build_id ? std::move(file) : nullptr;
}

// A deleted file still hangs on the process's mappings.
std::unique_ptr<ElfFile> still_mapped_file(const Module& module, const ProcessContext& context) {
  if (context.live_pid <= 0) {
    return nullptr;
  }
  const std::string process = "/proc/" + std::to_string(context.live_pid);
  std::string name;
  for (const Mapping& mapping : read_mappings(context.live_pid)) {
    if (mapping.file.inode != 0 && mapping.begin >= module.start && mapping.end <= module.end) {
      name = fmt::format("{}/map_files/{:x}-{:x}", process, mapping.begin, mapping.end);
      break;
    }
  }
  for (const std::string& path : {name, process + "/exe"}) {
    auto file = ElfFile::open(-1, path);
    if (file != nullptr && is_loaded_file(*file, module, context)) {
      return file;
    }
  }
  return nullptr;
}

std::string without_deleted_mark(const std::string& path) {
  constexpr std::string_view kMark = " (deleted)";
  return path.ends_with(kMark) ? path.substr(0, path.size() - kMark.size()) : path;
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::unique_ptr<ElfFile> find_by_build_id(const FileRoots& roots,
                                          const std::vector<uint8_t>& build_id,
                                          const std::vector<std::string>& debug_dirs) {
  if (build_id.size() < 2) {
    return nullptr;
  }
  const std::string hex = to_hex(build_id);
  for (const std::string& directory : debug_dirs) {
    const std::string path =
        directory + "/.build-id/" + hex.substr(0, 2) + "/" + hex.substr(2) + ".debug";
    auto file =
        roots.find(path, [&](const ElfFile& found) { return found.build_id() == build_id; });
    if (file != nullptr) {
      return file;
    }
  }
  return nullptr;
}

std::unique_ptr<ElfFile> find_by_debug_link(const FileRoots& roots, const Module& module,
                                            const ElfFile& loaded,
                                            const std::vector<std::string>& debug_dirs) {
  const ElfFile::Link link = loaded.debug_link();
  if (link.name.empty()) {
    return nullptr;
  }
  const std::string directory = directory_of(without_deleted_mark(module.path));
  std::vector<std::string> paths = {directory + "/" + link.name,
                                    directory + "/.debug/" + link.name};
  for (const std::string& debug_dir : debug_dirs) {
    paths.push_back(debug_dir + directory + "/" + link.name);
  }
  const auto fits = [&](const ElfFile& found) {
    return found.build_id() == loaded.build_id() &&
           (!loaded.build_id().empty() || found.crc32() == link.crc);
  };
  for (const std::string& path : paths) {
    if (auto file = roots.find(path, fits); file != nullptr) {
      return file;
    }
  }
  return nullptr;
}

std::unique_ptr<ElfFile> fetch(const Debuginfod* servers, const std::vector<uint8_t>& build_id) {
  if (servers == nullptr || build_id.empty()) {
    return nullptr;
  }
  const std::string path = servers->find(build_id);
  auto file = path.empty() ? nullptr : ElfFile::open(-1, path);
  return file != nullptr && file->build_id() == build_id ? std::move(file) : nullptr;
}

std::unique_ptr<ElfFile> find_alternate(const FileRoots& roots, const ElfFile& file,
                                        const std::vector<std::string>& debug_dirs,
                                        const Debuginfod* servers) {
  const ElfFile::Link link = file.alternate_link();
  if (link.build_id.empty()) {
    return nullptr;
  }
  const auto fits = [&](const ElfFile& found) { return found.build_id() == link.build_id; };
  const bool absolute = link.name.starts_with('/');
  const std::string path = absolute ? link.name : directory_of(file.path()) + "/" + link.name;
  auto found = roots.find(path, fits);
  if (found == nullptr) {
    found = find_by_build_id(roots, link.build_id, debug_dirs);
  }
  return found != nullptr ? std::move(found) : fetch(servers, link.build_id);
}

}  // namespace

ProcessContext process_context(const TargetInfo& target) {
  ProcessContext context;
  context.start_realtime_ns = target.start_realtime_ns;
  if (target.state != TargetState::kRunning) {
    return context;
  }
  const int claimed = static_cast<int>(target.pid);
  context.live_pid = claimed > 0 && maps_file(claimed, target.file)
                         ? claimed
                         : find_process_that_maps(target.file);
  return context;
}

const ElfFile* ModuleFiles::dwarf() const {
  for (const ElfFile* file : {debug.get(), loaded.get()}) {
    if (file != nullptr && file->has_dwarf()) {
      const bool needs_alternate = !file->alternate_link().name.empty();
      return !needs_alternate || alternate != nullptr ? file : nullptr;
    }
  }
  return nullptr;
}

ModuleFiles find_module_files(const Module& module, const ProcessContext& context,
                              const std::vector<std::string>& extra_debug_dirs,
                              const Debuginfod* servers) {
  std::vector<std::string> debug_dirs = extra_debug_dirs;
  debug_dirs.emplace_back(kSystemDebugDir);
  const FileRoots roots(context);
  ModuleFiles files;
  files.loaded = roots.find(without_deleted_mark(module.path), [&](const ElfFile& file) {
    return is_loaded_file(file, module, context);
  });
  if (files.loaded == nullptr) {
    files.loaded = still_mapped_file(module, context);
  }
  if (files.loaded == nullptr) {
    files.loaded = own_vdso(module);
  }
  if (files.loaded == nullptr || !files.loaded->has_dwarf()) {
    files.debug = find_by_build_id(roots, module.build_id, debug_dirs);
    if (files.debug == nullptr && files.loaded != nullptr) {
      files.debug = find_by_debug_link(roots, module, *files.loaded, debug_dirs);
    }
    if (files.debug == nullptr) {
      files.debug = fetch(servers, module.build_id);
    }
  }
  for (const ElfFile* file : {files.debug.get(), files.loaded.get()}) {
    if (file != nullptr && file->has_dwarf()) {
      files.alternate = find_alternate(roots, *file, debug_dirs, servers);
      break;
    }
  }
  return files;
}

}  // namespace slabscope
