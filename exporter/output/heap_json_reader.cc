// SPDX-License-Identifier: MIT
//
// An earlier `heap --json`, read back with suspicion.
//
//   parser ─ at each end of stacks[i] ─► StackReader ─► HeapProfile; the tree of it is dropped
//
// What is not an object, a list, a finite number or a text where one is expected ends the reading
// with the place and the reason.

#include <nlohmann/json.hpp>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <unordered_map>

#include "exporter/base/text.h"
#include "exporter/output/heap_json.h"

namespace slabscope {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxFileBytes = uint64_t{2} << 30;
constexpr int kMaxJsonDepth = 8;
constexpr size_t kMaxStackFrames = 4096;
constexpr size_t kMaxText = 64 << 10;
constexpr size_t kMaxStacks = 4 << 20;
constexpr double kMaxNumber = 1e18;

// The reason why a file is refused; thrown through the parser, caught below.
class Refused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) {
    throw Refused("a list item or value where an object is expected");
  }
  const auto found = object.find(key);
  return found != object.end() && !found->is_null() ? &*found : nullptr;
}

double number(const Json& object, const char* key) {
  const Json* value = member(object, key);
  if (value == nullptr) {
    return 0;
  }
  const double result = value->is_number() ? value->get<double>() : -1;
  if (!std::isfinite(result) || result < 0 || result > kMaxNumber) {
    throw Refused(std::string("\"") + key + "\" is no number between 0 and 1e18");
  }
  return result;
}

std::string text(const Json& object, const char* key) {
  const Json* value = member(object, key);
  if (value == nullptr) {
    return "";
  }
  if (!value->is_string() || value->get_ref<const std::string&>().size() > kMaxText) {
    throw Refused(std::string("\"") + key + "\" is no text of reasonable length");
  }
  return printable_utf8(value->get_ref<const std::string&>());
}

Estimate estimate(const Json& object, const char* key, const char* error_key) {
  const double error = number(object, error_key);
  return {number(object, key), error * error};
}

class ProfileReader {
 public:
  // Called by the parser; false drops what was parsed.
  bool event(int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth > kMaxJsonDepth) {
      throw Refused("nested deeper than a heap profile is");
    }
    if (depth == 1 && event == Json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      in_stacks_ = name == "stacks";
      saw_stacks_ = saw_stacks_ || in_stacks_;
      saw_before_ = saw_before_ || name == "before";
      saw_leaks_ = saw_leaks_ || name == "leaks";
      return in_stacks_ || name == "schema" || name == "target" || name == "time_seconds" ||
             name == "totals";
    }
    if (in_stacks_ && depth == 2 && event == Json::parse_event_t::object_end) {
      add_stack(parsed);
      return false;
    }
    return true;
  }

  HeapProfile finish(const Json& root) {
    if (!root.is_object()) {
      throw Refused("not a JSON object");
    }
    if (saw_before_ || !saw_stacks_) {
      throw Refused(saw_before_  ? "it holds a comparison, not a heap"
                    : saw_leaks_ ? "it holds a leak report, not a heap"
                                 : "it has no \"stacks\"");
    }
    if (number(root, "schema") != 1) {
      throw Refused("its \"schema\" is not 1, the one this slabscope knows");
    }
    profile_.time_seconds = number(root, "time_seconds");
    if (const Json* target = member(root, "target")) {
      profile_.target.pid = static_cast<uint32_t>(std::min(number(*target, "pid"), 4294967295.0));
      profile_.target.comm = text(*target, "comm");
      profile_.target.start_realtime_ns =
          static_cast<uint64_t>(std::min(number(*target, "start_time_seconds"), 1e9 * 9) * 1e9);
    }
    const Json* totals = member(root, "totals");
    if (const Json* exact = totals != nullptr ? member(*totals, "exact") : nullptr) {
      profile_.exact_objects = static_cast<uint64_t>(number(*exact, "objects"));
      profile_.exact_bytes = static_cast<uint64_t>(number(*exact, "bytes"));
    }
    return std::move(profile_);
  }

 private:
  void add_stack(const Json& json) {
    if (profile_.stacks.size() >= kMaxStacks) {
      throw Refused("more stacks than any scope file can hold");
    }
    HeapStack stack;
    stack.objects = estimate(json, "objects", "objects_stderr");
    stack.bytes = estimate(json, "bytes", "bytes_stderr");
    stack.samples = static_cast<uint64_t>(number(json, "samples"));
    stack.estimated = stack.objects.variance > 0 || stack.bytes.variance > 0;
    const Json* frames = member(json, "stack");
    if (frames != nullptr && (!frames->is_array() || frames->size() > kMaxStackFrames)) {
      throw Refused("\"stack\" is no list of frames");
    }
    for (size_t i = 0; frames != nullptr && i < frames->size(); ++i) {
      stack.stack.push_back(intern((*frames)[i]));
    }
    profile_.estimated = profile_.estimated || stack.estimated;
    profile_.samples += stack.samples;
    profile_.stacks.push_back(std::move(stack));
  }

  uint32_t intern(const Json& json) {
    SymbolFrame frame;
    frame.function = text(json, "function");
    frame.file = text(json, "file");
    frame.line = static_cast<uint32_t>(std::min(number(json, "line"), 4294967295.0));
    frame.module = text(json, "module");
    frame.offset = static_cast<uint64_t>(number(json, "offset"));
    frame.build_id = text(json, "build_id");
    const Json* inlined = member(json, "inlined");
    frame.inlined = inlined != nullptr && inlined->is_boolean() && inlined->get<bool>();
    std::string key = frame.function + '\0' + frame.file + '\0' + std::to_string(frame.line) +
                      '\0' + frame.module + '\0' + frame.build_id + '\0' +
                      std::to_string(frame.offset) + (frame.inlined ? "i" : "");
    const auto [entry, fresh] =
        known_.try_emplace(std::move(key), static_cast<uint32_t>(profile_.frames.size()));
    if (fresh) {
      profile_.frames.push_back(std::move(frame));
    }
    return entry->second;
  }

  HeapProfile profile_;
  std::unordered_map<std::string, uint32_t> known_;
  bool in_stacks_ = false;
  bool saw_stacks_ = false;
  bool saw_before_ = false;
  bool saw_leaks_ = false;
};

Failure refused(const std::string& path, const std::string& why) {
  return {ErrorCode::kCorrupt, printable_utf8(path) + ": not usable as an earlier heap: " + why +
                                   "; write one with: slabscope heap TARGET --json -o FILE"};
}

}  // namespace

Result<HeapProfile> read_heap_json(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return Failure{ErrorCode::kUnreadable,
                   printable_utf8(path) + ": " + (error ? error.message() : "not a regular file")};
  }
  if (std::filesystem::file_size(path, error) > kMaxFileBytes) {
    return refused(path, "it is larger than 2 GiB");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return Failure{ErrorCode::kUnreadable,
                   printable_utf8(path) + ": " + std::generic_category().message(errno)};
  }
  ProfileReader reader;
  try {
    const Json root = Json::parse(file, [&](int depth, Json::parse_event_t event, Json& parsed) {
      return reader.event(depth, event, parsed);
    });
    return reader.finish(root);
  } catch (const Refused& reason) {
    return refused(path, reason.what());
  } catch (const Json::exception& broken) {
    return refused(path, "broken JSON: " + printable_utf8(broken.what()));
  }
}

}  // namespace slabscope
