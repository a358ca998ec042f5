// SPDX-License-Identifier: MIT

#include "exporter/analysis/stack_frames.h"

#include <string_view>

#include "exporter/base/text.h"

namespace slabscope {

bool is_allocator(std::string_view module_path) {
  const size_t slash = module_path.rfind('/');
  const std::string_view name =
      slash == std::string_view::npos ? module_path : module_path.substr(slash + 1);
  return name.starts_with("libslabscope.so");
}

StackFrames::Ids StackFrames::ids_of(const Stack& stack) {
  Ids ids;
  for (const uint64_t address : stack.frames) {
    const Ids& here = ids_at(address, stack.generation);
    ids.insert(ids.end(), here.begin(), here.end());
  }
  size_t own = 0;
  while (own + 1 < ids.size() && is_allocator(frames_[ids[own]].module)) {
    ++own;
  }
  ids.erase(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(own));
  return ids;
}

const StackFrames::Ids& StackFrames::ids_at(uint64_t return_address, uint32_t generation) {
  auto [place, fresh] = places_.try_emplace({return_address, generation});
  if (fresh) {
    for (const SymbolFrame& frame : symbolizer_.symbolize(return_address, generation)) {
      place->second.push_back(intern(frame));
    }
  }
  return place->second;
}

uint32_t StackFrames::intern(const SymbolFrame& frame) {
  std::string key = frame.function + '\0' + frame.file + '\0' + std::to_string(frame.line) + '\0' +
                    frame.module + '\0' + frame.build_id + (frame.inlined ? "i" : "");
  if (frame.line == 0) {
    key += '\0' + std::to_string(frame.offset);
  }
  const auto [entry, fresh] = known_.try_emplace(key, static_cast<uint32_t>(frames_.size()));
  if (fresh) {
    SymbolFrame clean = frame;
    clean.function = printable_utf8(frame.function);
    clean.file = printable_utf8(frame.file);
    clean.module = printable_utf8(frame.module);
    frames_.push_back(std::move(clean));
  }
  return entry->second;
}

}  // namespace slabscope
