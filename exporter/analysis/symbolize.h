// SPDX-License-Identifier: MIT
//
// Symbolizer: an address of a (possibly dead) process -> functions, files and lines.
//
//   pc ─► Module ─► ModuleFiles: the ELF and debug file with the recorded build-id
//             │            │
//             │ pc - bias  ▼
//             └────► DwarfIndex: unit, inline chain, line ─ no DWARF ─► ElfSymbols: name + offset
//                              │                                          │       │ stripped
//                              ▼                                          ▼       ▼
//                    SymbolFrame, innermost first ◄───────────────────────┴─ module + 0xoffset
//
// Invariants
//   1. A file is used only if it is a regular file of bounded size whose build-id is the recorded
//      one; without a recorded one, only if it has none and is older than the process.
//   2. Every answer has at least one frame, and the last frame is the function that holds the pc.
//   3. Nothing is fetched unless SymbolizerOptions::servers: libdw asks nobody by itself (libdwfl,
//      which is not used here, would).                                        (process.debuginfod)
//   4. Each module is opened once and each address answered once; both caches are bounded.
// Not thread-safe: one Symbolizer a thread, or a mutex around it.
// Called from: exporter/output/report.cc and every output that prints a stack. Never on the scrape
// path: the first look into a big binary costs tens of milliseconds.
// Rejected: dwarf_getscopes, 1.4 to 2.2 ms an address; see dwarf_index.h.

#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "exporter/analysis/module_files.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

struct SymbolFrame {
  std::string function;        // demangled; "" if unknown
  std::string file;            // "" if unknown
  uint32_t line = 0;           // 0 if unknown
  std::string module;          // path as the target saw it; "" if the pc lies in no known module
  uint64_t offset = 0;         // address within the module's ELF file (pc - bias), or the raw pc
  uint64_t symbol_offset = 0;  // from the start of `function`, if a symbol table named it
  std::string build_id;        // lower-case hex, "" if none
  bool inlined = false;        // this frame's code sits inside the next frame's function

  bool operator==(const SymbolFrame&) const = default;
};

struct SymbolizerOptions {
  bool open_files = true;                     // false: module + offset only
  std::vector<std::string> debug_dirs;        // searched before /usr/lib/debug
  std::shared_ptr<const Debuginfod> servers;  // asked for what is not on this host; null: nobody
  size_t max_modules = 512;      // kept open between processes; beyond it all are closed
  size_t max_answers = 1 << 18;  // cached addresses; more are answered, but not remembered
};

class Symbolizer {
 public:
  explicit Symbolizer(SymbolizerOptions options = {});
  ~Symbolizer();
  Symbolizer(const Symbolizer&) = delete;
  Symbolizer& operator=(const Symbolizer&) = delete;

  // Names the process whose addresses come next; forgets the modules of the one before, but keeps
  // the files that were opened and the answers that depend on a build-id alone.
  void begin_process(std::span<const Module> modules, const ProcessContext& context);

  // Frames of one return address (it is looked up at pc - 1), valid until the next call.
  // `generation` is that of the stack: of several modules that lay there at different times, the
  // one that was mapped then is meant.
  [[nodiscard]] const std::vector<SymbolFrame>& symbolize(uint64_t return_address,
                                                          uint32_t generation);

  // All frames of one stack of return addresses, innermost first.
  [[nodiscard]] std::vector<SymbolFrame> symbolize_stack(std::span<const uint64_t> return_addresses,
                                                         uint32_t generation);

  // Paths of modules of this process that were asked of in vain: the file is gone, or is another
  // build by now. None if files are not to be opened.
  [[nodiscard]] std::set<std::string> missing_modules() const;

 private:
  struct OpenModule;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace slabscope
