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

void write_frame(int fd, ScopeFile& file, uint64_t pc, uint32_t generation) {
  Line line;
  line.text("      ");
  const abi::ModuleRecord* module = find_module(file, pc - 1, generation);
  if (module == nullptr) {
    line.hex(pc);
  } else {
    const uint32_t path =
        module->path < file.section(abi::kSectionStrings).used && module->path < abi::kStringsBytes
            ? module->path
            : 0;
    line.text(path == 0 ? "[unnamed]" : file.strings() + path, abi::kStringsBytes - path);
    line.text("+").hex(pc - module->bias);
  }
  write_line(fd, line.text("\n"));
}

}  // namespace

void write_line(int fd, const Line& line) {
  sys::write_all(fd, line.data(), line.size());
}

void write_frames(int fd, ScopeFile& file, abi::StackRecord* record) {
  for (uint32_t i = 0; i < record->frame_count && i < abi::kMaxFrames; ++i) {
    write_frame(fd, file, StackDepot::frames_of(record)[i], record->generation);
  }
}

}  // namespace slabscope::diag
