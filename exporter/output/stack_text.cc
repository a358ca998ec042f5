// SPDX-License-Identifier: MIT

#include "exporter/output/stack_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "exporter/analysis/stack_frames.h"
#include "exporter/base/text.h"
#include "exporter/output/function_name.h"

namespace slabscope {
namespace {

constexpr size_t kMaxNameColumn = 48;
constexpr size_t kShownBuildId = 12;  // digits; JSON has all
constexpr size_t kMinRun = 3;         // shorter runs of library frames are shown
constexpr size_t kMinWidth = 60;
constexpr size_t kFixedColumns = 12;  // number and margins

std::string painted(const StackStyle& style, std::string_view code, std::string text) {
  return style.color ? fmt::format("\033[{}m{}\033[0m", code, text) : text;
}

// What the C library puts below main() and below a thread's function.
bool starts_program(const SymbolFrame& frame) {
  std::string_view name = frame.function;
  if (name == "_start" || name.starts_with("__libc_start_")) {
    return true;
  }
  const std::string_view module = base_name(frame.module);
  if (!module.starts_with("libc.") && !module.starts_with("libpthread")) {
    return false;
  }
  for (const std::string_view prefix : {"__GI_", "__"}) {
    name.remove_prefix(name.starts_with(prefix) ? prefix.size() : 0);
  }
  return name == "start_thread" || name == "clone" || name == "clone3";
}

std::string place_of(const SymbolFrame& frame, const StackStyle& style) {
  if (!frame.file.empty()) {
    std::string file = frame.file;
    if (!style.source_root.empty() && file.starts_with(style.source_root + "/")) {
      file = file.substr(style.source_root.size() + 1);
    }
    return painted(style, "36", frame.line != 0 ? fmt::format("{}:{}", file, frame.line) : file);
  }
  if (frame.module.empty()) {
    return fmt::format("0x{:x}, in no known module", frame.offset);
  }
  std::string place = fmt::format("{}+0x{:x}", frame.module, frame.offset);
  if (frame.function.empty() && !frame.build_id.empty()) {
    place += fmt::format(" (build-id {})", frame.build_id.substr(0, kShownBuildId));
  }
  return painted(style, "2", place);
}

// A symbol table gives no line, so it says how far into the function the call is.
std::string name_of(const SymbolFrame& frame, size_t limit) {
  std::string name = short_function_name(frame.function, limit);
  if (!name.empty() && frame.file.empty()) {
    name += fmt::format("+0x{:x}", frame.symbol_offset);
  }
  return name;
}

// Frames that say how the C++ library does something, not what was asked of it.
bool inside_cpp_library(const SymbolFrame& frame) {
  return frame.file.find("/include/c++/") != std::string::npos ||
         frame.function.starts_with("std::") || frame.function.starts_with("__gnu_cxx::");
}

// One past the run of C++ library frames that begins at `first`, its outermost frame left out: that
// one is what the program called.
size_t end_of_library_run(const std::vector<SymbolFrame>& stack, size_t first, size_t end) {
  size_t last = first;
  while (last < end && inside_cpp_library(stack[last])) {
    ++last;
  }
  return last >= first + kMinRun ? last - 1 : first;
}

}  // namespace

size_t startup_begin(const std::vector<SymbolFrame>& stack) {
  const auto first = std::find_if(stack.begin(), stack.end(), starts_program);
  const auto index = static_cast<size_t>(first - stack.begin());
  return index == 0 ? stack.size() : index;
}

bool belongs_to_system(std::string_view path) {
  return path.empty() || path.starts_with('[') || path.starts_with("linux-vdso") ||
         path.starts_with("/lib") || path.starts_with("/usr/lib") || is_allocator(path);
}

std::string site_text(const std::vector<SymbolFrame>& stack, const StackStyle& style) {
  if (stack.empty()) {
    return "objects whose stack was not recorded";
  }
  const auto own = std::find_if(stack.begin(), stack.end(), [](const SymbolFrame& frame) {
    return !belongs_to_system(frame.module) && !inside_cpp_library(frame);
  });
  const SymbolFrame& site = own == stack.end() ? stack.front() : *own;
  const std::string name = name_of(site, kMaxNameColumn);
  const std::string place = place_of(site, style);
  return name.empty() ? place : fmt::format("{} ({})", name, place);
}

std::string stack_text(const std::vector<SymbolFrame>& stack, const StackStyle& style) {
  const size_t shown = startup_begin(stack);
  const size_t limit = std::max(style.width, kMinWidth) - kFixedColumns;
  std::vector<std::string> names;
  size_t column = 0;
  for (size_t i = 0; i < shown; ++i) {
    names.push_back(name_of(stack[i], limit));
    const size_t width = display_width(names.back());
    const bool hidden = end_of_library_run(stack, i, shown) != i;
    column = width <= kMaxNameColumn && !hidden ? std::max(column, width) : column;
  }
  std::string text;
  for (size_t i = 0; i < shown; ++i) {
    if (const size_t end = end_of_library_run(stack, i, shown); end != i) {
      text += fmt::format("      (#{} to #{}: inside the C++ library)\n", i, end - 1);
      i = end;
    }
    std::string& name = names[i];
    const size_t width = display_width(name);
    name.append(width < column ? column - width : 0, ' ');
    name += name.empty() ? "" : "  ";
    text += fmt::format("  {:>3} {}{}{}\n", fmt::format("#{}", i), name, place_of(stack[i], style),
                        stack[i].inlined ? "  (inlined)" : "");
  }
  if (shown < stack.size()) {
    std::vector<std::string> modules;
    for (size_t i = shown; i < stack.size(); ++i) {
      std::string name(base_name(stack[i].module));
      if (std::find(modules.begin(), modules.end(), name) == modules.end()) {
        modules.push_back(std::move(name));
      }
    }
    const size_t below = stack.size() - shown;
    text += fmt::format("      ({} start-up {} of {} below)\n", below,
                        below == 1 ? "frame" : "frames", fmt::join(modules, ", "));
  }
  return text;
}

}  // namespace slabscope
