// SPDX-License-Identifier: MIT

#include "exporter/output/heap_tree.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "exporter/base/saturating.h"
#include "exporter/base/text.h"
#include "exporter/output/function_name.h"
#include "exporter/output/phrases.h"
#include "exporter/output/web_assets.h"

namespace slabscope {
namespace {

constexpr size_t kMaxName = 160;         // characters of a function on the page
constexpr double kSmallestShare = 5e-5;  // of all bytes or objects; smaller frames are summed up

// What the colour of a frame tells; heap_page.js has the same order.
enum class Kind { kProgram, kCppLibrary, kLibrary, kUnknown };

// Where distributions keep what is not the program's own.
bool is_system_library(std::string_view path) {
  return path.starts_with("/lib") || path.starts_with("/usr/lib");
}

Kind kind_of(const SymbolFrame& frame, const std::string& program) {
  if (frame.module.empty()) {
    return Kind::kUnknown;
  }
  if (frame.function.starts_with("std::") || frame.function.starts_with("__gnu_cxx::") ||
      frame.file.find("/include/c++/") != std::string::npos) {
    return Kind::kCppLibrary;
  }
  return frame.module == program || !is_system_library(frame.module) ? Kind::kProgram
                                                                     : Kind::kLibrary;
}

uint64_t js_whole(double value) {
  constexpr double kLargest = 9e15;  // what a number of JavaScript holds exactly
  return whole(std::min(value, kLargest));
}

struct Node {
  std::string file;
  uint32_t line = 0;
  std::string module;
  Kind kind = Kind::kUnknown;
  double bytes = 0;
  double objects = 0;
  std::map<std::string, std::unique_ptr<Node>> children;
};

// Calls of one function from one caller are one node, whatever their lines.
void enter(Node& node, const SymbolFrame& frame, const std::string& program) {
  if (node.module.empty() && node.file.empty()) {
    node.file = frame.file;
    node.line = frame.line;
    node.module = frame.module;
    node.kind = kind_of(frame, program);
  } else if (node.line != frame.line) {
    node.line = 0;
  }
}

std::string page_name(const SymbolFrame& frame) {
  const std::string name =
      frame.function.empty() ? frame_name(frame) : short_function_name(frame.function, kMaxName);
  return frame.inlined ? name + " (inlined)" : name;
}

Node build_tree(const HeapProfile& profile) {
  const std::string program = printable_utf8(profile.target.exe);
  Node root;
  for (const HeapStack& stack : profile.stacks) {
    if (stack.samples == 0) {
      continue;
    }
    Node* node = &root;
    node->bytes += stack.bytes.value;
    node->objects += stack.objects.value;
    for (size_t i = stack.stack.size(); i-- > 0;) {
      const SymbolFrame& frame = profile.frames[stack.stack[i]];
      std::unique_ptr<Node>& child = node->children[page_name(frame)];
      if (child == nullptr) {
        child = std::make_unique<Node>();
      }
      enter(*child, frame, program);
      node = child.get();
      node->bytes += stack.bytes.value;
      node->objects += stack.objects.value;
    }
    if (stack.stack.empty()) {
      std::unique_ptr<Node>& child = node->children["(stack not recorded)"];
      if (child == nullptr) {
        child = std::make_unique<Node>();
      }
      child->bytes += stack.bytes.value;
      child->objects += stack.objects.value;
    }
  }
  return root;
}

class TreeJson {
 public:
  explicit TreeJson(const Node& root)
      : least_bytes_(root.bytes * kSmallestShare), least_objects_(root.objects * kSmallestShare) {}

  void write(const std::string& name, const Node& node) {
    open(name, node.bytes, node.objects, node.kind);
    const std::string place =
        node.file.empty()
            ? std::string(base_name(node.module))
            : (node.line != 0 ? fmt::format("{}:{}", node.file, node.line) : node.file);
    if (!place.empty()) {
      text_ += ",\"p\":" + quoted(place);
    }
    if (!node.children.empty()) {
      write_children(node);
    }
    text_ += '}';
  }
  std::string take() { return std::move(text_); }

 private:
  static std::string quoted(const std::string& text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  void open(const std::string& name, double bytes, double objects, Kind kind) {
    text_ += fmt::format("{{\"n\":{},\"v\":{},\"o\":{},\"k\":{}", quoted(name), js_whole(bytes),
                         js_whole(objects), static_cast<int>(kind));
  }
  void write_children(const Node& node) {
    text_ += ",\"c\":[";
    const char* separator = "";
    Node rest;
    size_t small = 0;
    for (const auto& [name, child] : node.children) {
      if (child->bytes < least_bytes_ && child->objects < least_objects_) {
        rest.bytes += child->bytes;
        rest.objects += child->objects;
        ++small;
        continue;
      }
      text_ += separator;
      write(name, *child);
      separator = ",";
    }
    if (small != 0) {
      text_ += separator;
      open(fmt::format("({} smaller)", small), rest.bytes, rest.objects, Kind::kUnknown);
      text_ += '}';
    }
    text_ += ']';
  }

  double least_bytes_;
  double least_objects_;
  std::string text_;
};

std::string page_data(const HeapProfile& profile) {
  const Node root = build_tree(profile);
  TreeJson tree(root);
  tree.write(fmt::format("all of {}", printable_utf8(profile.target.comm)), root);
  std::string json = fmt::format("{{\"estimated\":{},\"root\":{}}}",
                                 profile.estimated ? "true" : "false", tree.take());
  // Inside a script element no text may look like its end.
  std::string safe;
  safe.reserve(json.size());
  for (const char c : json) {
    if (c == '<') {
      safe += "\\u003c";
    } else {
      safe += c;
    }
  }
  return safe;
}

std::string percent(const Estimate& amount) {
  return amount.value > 0 ? fmt::format("±{:.0f}%", 100 * amount.standard_error() / amount.value)
                          : std::string("±0%");
}

std::string page_summary(const HeapProfile& profile) {
  const TargetInfo& target = profile.target;
  const HeapGroup sum = sum_of(profile);
  std::string html =
      fmt::format("<p>{} in {} live by exact count, in the sizes of their slots.</p>\n",
                  html_escape(bytes_text(profile.exact_bytes)),
                  html_escape(counted(profile.exact_objects, "object")));
  html += fmt::format("<p class=\"soft\">{}, {}; as of {}; slabscope {}</p>\n",
                      html_escape(printable_utf8(target.exe)), to_string(target.state),
                      date_text(static_cast<uint64_t>(std::max(0.0, profile.time_seconds) * 1e9)),
                      SLABSCOPE_VERSION);
  if (sum.samples == 0) {
    html += "<p class=\"note\">No live object has a stack on record, so there is no graph. ";
    html += target.track_mode == abi::TrackMode::kOff
                ? "Start the program with SLABSCOPE_TRACK=sampled or all.</p>\n"
                : "Start the program with SLABSCOPE_TRACK=all to have each one.</p>\n";
  } else if (profile.estimated) {
    html += fmt::format(
        "<p class=\"note\"><b>An estimate.</b> One stack was taken every {} bytes allocated: {} of "
        "live objects stand for about {} asked for ({}) in about {} ({}); ± is one standard error. "
        "A frame with few samples behind it may be far off.</p>\n",
        target.sample_interval, counted(sum.samples, "sample"),
        bytes_text(js_whole(sum.bytes.value)), percent(sum.bytes),
        counted(js_whole(sum.objects.value), "object"), percent(sum.objects));
  } else {
    html += fmt::format(
        "<p>Every object has its stack: the graph shows the {} asked for in {}.</p>\n",
        bytes_text(js_whole(sum.bytes.value)), counted(js_whole(sum.objects.value), "object"));
  }
  return html;
}

}  // namespace

std::string frame_name(const SymbolFrame& frame) {
  if (!frame.function.empty()) {
    return frame.function;
  }
  return frame.module.empty() ? fmt::format("0x{:x}", frame.offset)
                              : fmt::format("{}+0x{:x}", base_name(frame.module), frame.offset);
}

std::string heap_collapsed(const HeapProfile& profile) {
  std::map<std::string, double> lines;
  for (const HeapStack& stack : profile.stacks) {
    if (stack.samples == 0) {
      continue;
    }
    std::string path;
    for (size_t i = stack.stack.size(); i-- > 0;) {
      std::string name = printable_utf8(frame_name(profile.frames[stack.stack[i]]));
      std::replace(name.begin(), name.end(), ';', ':');
      name.resize(name.find_last_not_of(' ') + 1);
      name = name.empty() ? "?" : name;
      path += (path.empty() ? "" : ";") + name;
    }
    lines[path.empty() ? "(stack not recorded)" : path] += stack.bytes.value;
  }
  std::string text;
  for (const auto& [path, bytes] : lines) {
    text += path + ' ' + std::to_string(js_whole(bytes)) + '\n';
  }
  return text;
}

std::string heap_page(const HeapProfile& profile) {
  const std::string heading = html_escape(
      fmt::format("{} (pid {}): live heap by stack", profile.target.comm, profile.target.pid));
  const std::map<std::string_view, std::string> parts = {
      {"TITLE", heading},
      {"HEADING", heading},
      {"SUMMARY", page_summary(profile)},
      {"DATA", page_data(profile)},
      {"SCRIPT", std::string(heap_page_script())}};
  std::string html;
  std::string_view rest = heap_page_html();
  for (size_t at = rest.find("{{"); at != std::string_view::npos; at = rest.find("{{")) {
    const size_t end = rest.find("}}", at);
    const auto part = parts.find(rest.substr(at + 2, end - at - 2));
    html += rest.substr(0, at);
    html += part != parts.end() ? part->second : "";
    rest.remove_prefix(end + 2);
  }
  return html += rest;
}

}  // namespace slabscope
