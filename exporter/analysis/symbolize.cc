// SPDX-License-Identifier: MIT

#include "exporter/analysis/symbolize.h"

#include <algorithm>
#include <list>
#include <map>
#include <unordered_map>
#include <utility>

#include "exporter/analysis/demangle.h"
#include "exporter/analysis/dwarf_index.h"
#include "exporter/analysis/elf_symbols.h"
#include "exporter/base/hex.h"

namespace slabscope {

// One module's files, opened, and what they answered.
struct Symbolizer::OpenModule {
  ModuleFiles files;  // first: the indexes below point into it
  std::unique_ptr<DwarfIndex> dwarf;
  ElfSymbols symbols;
  bool symbols_read = false;
  std::string path;
  std::string build_id;
  std::unordered_map<uint64_t, std::vector<SymbolFrame>> answers;  // by pc - bias

  void open(const Module& module, const ProcessContext& context,
            const std::vector<std::string>& debug_dirs, const Debuginfod* servers) {
    files = find_module_files(module, context, debug_dirs, servers);
    if (const ElfFile* file = files.dwarf(); file != nullptr) {
      dwarf = DwarfIndex::open(*file, files.alternate.get());
    }
  }

  std::vector<SymbolFrame> find(uint64_t address, uint64_t return_offset);
  void add_symbol(uint64_t address, SymbolFrame& frame);
};

void Symbolizer::OpenModule::add_symbol(uint64_t address, SymbolFrame& frame) {
  if (!symbols_read) {
    symbols_read = true;
    for (const ElfFile* file : {files.debug.get(), files.loaded.get()}) {
      if (file != nullptr && symbols.empty()) {
        symbols.add(*file);
      }
    }
  }
  if (const auto match = symbols.find(address); match.has_value()) {
    frame.function = demangle(match->name);
    frame.symbol_offset = match->offset;
  }
}

std::vector<SymbolFrame> Symbolizer::OpenModule::find(uint64_t address, uint64_t return_offset) {
  SymbolFrame frame;
  frame.module = path;
  frame.build_id = build_id;
  frame.offset = return_offset;
  std::vector<SymbolFrame> frames;
  if (dwarf != nullptr) {
    for (SourceFrame& source : dwarf->find(address)) {
      frame.function = std::move(source.function);
      frame.file = std::move(source.file);
      frame.line = source.line;
      frame.inlined = source.inlined;
      frames.push_back(frame);
    }
  }
  if (frames.empty()) {
    frames.push_back(frame);
  }
  if (frames.back().function.empty()) {
    add_symbol(address, frames.back());
  }
  return frames;
}

struct Symbolizer::State {
  // Generations in which a module lay somewhere, sorted by address.
  struct Slot {
    const Module* module;
    uint64_t reach;  // the largest end of this slot and those before it
    OpenModule* open = nullptr;
  };

  SymbolizerOptions options;
  ProcessContext context;
  std::vector<Module> modules;
  std::vector<Slot> slots;
  std::list<OpenModule> opened;                    // most recently used first
  std::map<std::string, OpenModule*> by_build_id;  // path and build-id; only modules that have one
  std::list<OpenModule> of_this_process;           // modules without a build-id
  size_t answers = 0;
  std::vector<SymbolFrame> unknown;  // the last answer that no module could give

  OpenModule& open(const Module& module);
  Slot* find_slot(uint64_t pc, uint32_t generation);
  void drop_excess();
};

Symbolizer::OpenModule& Symbolizer::State::open(const Module& module) {
  const std::string build_id = to_hex(module.build_id);
  const std::string key = build_id + " " + module.path;
  if (const auto found = by_build_id.find(key); !build_id.empty() && found != by_build_id.end()) {
    return *found->second;
  }
  std::list<OpenModule>& home = build_id.empty() ? of_this_process : opened;
  OpenModule& fresh = home.emplace_front();
  fresh.path = module.path;
  fresh.build_id = build_id;
  if (options.open_files) {
    fresh.open(module, context, options.debug_dirs, options.servers.get());
  }
  const bool found = fresh.files.loaded != nullptr || fresh.files.debug != nullptr;
  if (!build_id.empty() && found) {
    by_build_id[key] = &fresh;
  } else if (!build_id.empty()) {
    // Nothing was found: another process may still lead to the file, so do not remember that.
    of_this_process.splice(of_this_process.begin(), opened, opened.begin());
  }
  return fresh;
}

Symbolizer::State::Slot* Symbolizer::State::find_slot(uint64_t pc, uint32_t generation) {
  auto next = std::upper_bound(slots.begin(), slots.end(), pc, [](uint64_t value, const Slot& s) {
    return value < s.module->start;
  });
  Slot* other = nullptr;
  size_t others = 0;
  while (next != slots.begin()) {
    --next;
    if (next->reach <= pc) {
      break;
    }
    if (pc >= next->module->end) {
      continue;
    }
    if (next->module->valid_for(generation)) {
      return &*next;
    }
    other = &*next;
    ++others;
  }
  // The target may have noticed a new module only after it stored the stack: if nothing else ever
  // lay there, this is the one.
  return others == 1 ? other : nullptr;
}

void Symbolizer::State::drop_excess() {
  if (opened.size() <= options.max_modules && answers <= options.max_answers) {
    return;
  }
  answers = 0;
  by_build_id.clear();
  opened.clear();
}

Symbolizer::Symbolizer(SymbolizerOptions options) : state_(std::make_unique<State>()) {
  state_->options = std::move(options);
}

Symbolizer::~Symbolizer() = default;

void Symbolizer::begin_process(std::span<const Module> modules, const ProcessContext& context) {
  State& state = *state_;
  state.slots.clear();
  state.of_this_process.clear();
  state.drop_excess();
  state.context = context;
  state.modules.assign(modules.begin(), modules.end());
  for (const Module& module : state.modules) {
    if (module.start < module.end) {
      state.slots.push_back({&module, 0});
    }
  }
  std::sort(state.slots.begin(), state.slots.end(), [](const State::Slot& a, const State::Slot& b) {
    return a.module->start < b.module->start;
  });
  uint64_t reach = 0;
  for (State::Slot& slot : state.slots) {
    reach = std::max(reach, slot.module->end);
    slot.reach = reach;
  }
}

const std::vector<SymbolFrame>& Symbolizer::symbolize(uint64_t return_address,
                                                      uint32_t generation) {
  State& state = *state_;
  const uint64_t pc = return_address - 1;  // the call, not what follows it
  State::Slot* slot = state.find_slot(pc, generation);
  if (slot == nullptr) {
    SymbolFrame frame;
    frame.offset = return_address;
    state.unknown.assign(1, frame);
    return state.unknown;
  }
  if (slot->open == nullptr) {
    slot->open = &state.open(*slot->module);
  }
  const uint64_t address = pc - slot->module->bias;
  if (const auto known = slot->open->answers.find(address); known != slot->open->answers.end()) {
    return known->second;
  }
  std::vector<SymbolFrame> frames = slot->open->find(address, return_address - slot->module->bias);
  if (state.answers >= state.options.max_answers) {
    state.unknown = std::move(frames);
    return state.unknown;
  }
  ++state.answers;
  return slot->open->answers.emplace(address, std::move(frames)).first->second;
}

std::vector<SymbolFrame> Symbolizer::symbolize_stack(std::span<const uint64_t> return_addresses,
                                                     uint32_t generation) {
  std::vector<SymbolFrame> stack;
  for (const uint64_t address : return_addresses) {
    const std::vector<SymbolFrame>& frames = symbolize(address, generation);
    stack.insert(stack.end(), frames.begin(), frames.end());
  }
  return stack;
}

std::set<std::string> Symbolizer::missing_modules() const {
  std::set<std::string> missing;
  for (const State::Slot& slot : state_->slots) {
    const bool asked = slot.open != nullptr && state_->options.open_files;
    if (asked && slot.open->files.loaded == nullptr && slot.open->files.debug == nullptr) {
      missing.insert(slot.module->path);
    }
  }
  return missing;
}

}  // namespace slabscope
