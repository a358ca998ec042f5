// SPDX-License-Identifier: MIT
//
// ModuleFiles: the files on this host that describe a module which some process had mapped.
//
//   Module ─► the loaded file:  /proc/PID/root + path, path, PID/map_files, PID/exe, own vdso
//             its debug file:   itself, DIR/.build-id/xx/yyyy.debug, .gnu_debuglink, a server
//             its alternate:    .gnu_debugaltlink (made by dwz, shared by several debug files)
//
// Invariants
//   1. The build-id must be the recorded one.  Without a recorded one the file must have none
//      either and must not be newer than the process.                           (symbolize_test)
//   2. Debug information that needs an alternate file is used only if that was found here: libdw
//      would otherwise open whatever path the section names.
// Called from: symbolize.cc.

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "exporter/analysis/debuginfod.h"
#include "exporter/analysis/elf_file.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

// Where the process's files can be found.
struct ProcessContext {
  int live_pid = 0;                // as this host sees it; 0 if it is dead or unknown
  uint64_t start_realtime_ns = 0;  // 0 if unknown
};

// The context of a snapshot's process. A pid is believed only if that process maps the scope file.
[[nodiscard]] ProcessContext process_context(const TargetInfo& target);

struct ModuleFiles {
  std::unique_ptr<ElfFile> loaded;     // what was mapped; nullptr if it is gone or is another build
  std::unique_ptr<ElfFile> debug;      // a separate file with DWARF; nullptr if `loaded` has it
  std::unique_ptr<ElfFile> alternate;  // for whichever of them has the DWARF

  // The file with usable DWARF, or nullptr.
  const ElfFile* dwarf() const;
};

// `servers` (or null) are asked for what is not on this host.
[[nodiscard]] ModuleFiles find_module_files(const Module& module, const ProcessContext& context,
                                            const std::vector<std::string>& debug_dirs,
                                            const Debuginfod* servers);

}  // namespace slabscope
