// SPDX-License-Identifier: MIT

#include "diag/frame_text.h"

#include "slab/base/sys.h"

namespace slabscope::diag {
namespace {

// The module that held `pc` when the stack was stored, or null.
const abi::ModuleRecord* find_module(ScopeFile& file, uint64_t pc, uint32_t generation) {
  uint64_t count = file.section(abi::kSectionModules).used;
  if (count > abi::kMaxModules)
    count = abi::kMaxModules;
  for (uint64_t i = 0; i < count; ++i) {
    const abi::ModuleRecord& module = file.modules()[i];
    if (module.state == 1 && pc >= module.start && pc < module.end &&
        module.loaded_generation <= generation &&
        (module.unloaded_generation == 0 || generation < module.unloaded_generation)) {
      return &module;
    }
  }
  return nullptr;
}

// Of at most `*room` bytes.
const char* path_of(ScopeFile& file, const abi::ModuleRecord& module, size_t* room) {
  const bool known =
      module.path < file.section(abi::kSectionStrings).used && module.path < abi::kStringsBytes;
  const uint32_t path = known ? module.path : 0;
  *room = abi::kStringsBytes - path;
  return path == 0 ? "[unnamed]" : file.strings() + path;
}

// Where the file's name begins in its path.
const char* name_in(const char* path, size_t* room) {
  const char* end = path + *room;
  const char* name = path;
  for (const char* at = path; at != end && *at != '\0'; ++at) {
    if (*at == '/')
      name = at + 1;
  }
  *room = static_cast<size_t>(end - name);
  return name;
}

// Whether it is a frame of the library's own: by the name, as the tools tell.
bool is_own(ScopeFile& file, uint64_t pc, uint32_t generation) {
  const abi::ModuleRecord* module = find_module(file, pc - 1, generation);
  if (module == nullptr)
    return false;
  size_t room = 0;
  const char* path = path_of(file, *module, &room);
  constexpr char kOwn[] = "libslabscope.so";
  const char* name = name_in(path, &room);
  return room >= sizeof(kOwn) && __builtin_strncmp(name, kOwn, sizeof(kOwn) - 1) == 0;
}

uint32_t count_of(const abi::StackRecord& record) {
  return record.frame_count < abi::kMaxFrames ? record.frame_count : abi::kMaxFrames;
}

// The number of the first frame that is the program's; 0 if none is.
uint32_t first_of_program(ScopeFile& file, abi::StackRecord* record) {
  const uint64_t* frames = StackDepot::frames_of(record);
  const uint32_t count = count_of(*record);
  uint32_t first = 0;
  while (first < count && is_own(file, frames[first], record->generation))
    ++first;
  return first < count ? first : 0;
}

void write_frame(int fd, ScopeFile& file, uint64_t pc, uint32_t generation) {
  Line line;
  line.text("      ");
  const abi::ModuleRecord* module = find_module(file, pc - 1, generation);
  if (module == nullptr) {
    line.hex(pc);
  } else {
    size_t room = 0;
    const char* path = path_of(file, *module, &room);
    line.text(path, room).text("+").hex(pc - module->bias);
  }
  write_line(fd, line.text("\n"));
}

}  // namespace

void write_line(int fd, const Line& line) {
  sys::write_all(fd, line.data(), line.size());
}

void write_frames(int fd, ScopeFile& file, abi::StackRecord* record) {
  const uint64_t* frames = StackDepot::frames_of(record);
  const uint32_t count = count_of(*record);
  for (uint32_t i = first_of_program(file, record); i < count; ++i)
    write_frame(fd, file, frames[i], record->generation);
}

uint64_t program_frame(ScopeFile& file, abi::StackRecord* record) {
  return count_of(*record) == 0 ? 0 : StackDepot::frames_of(record)[first_of_program(file, record)];
}

void add_place(Line& line, ScopeFile& file, uint64_t pc, uint32_t generation) {
  const abi::ModuleRecord* module = find_module(file, pc - 1, generation);
  if (module == nullptr) {
    line.hex(pc);
    return;
  }
  size_t room = 0;
  const char* path = path_of(file, *module, &room);
  const char* name = name_in(path, &room);
  line.text(name, room).text("+").hex(pc - module->bias);
}

}  // namespace slabscope::diag
