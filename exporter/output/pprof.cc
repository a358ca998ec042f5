// SPDX-License-Identifier: MIT

#include "exporter/output/pprof.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "exporter/base/hex.h"
#include "exporter/base/saturating.h"
#include "exporter/base/text.h"
#include "exporter/output/gzip.h"
#include "exporter/output/protobuf.h"

namespace slabscope {
namespace {

// Field numbers of profile.proto.
namespace pprof_field {
enum Profile : uint32_t {
  kSampleType = 1,
  kSample,
  kMapping,
  kLocation,
  kFunction,
  kStringTable,
  kTimeNanos = 9,
  kDurationNanos,
  kPeriodType,
  kPeriod,
  kComment,
  kDefaultSampleType,
};
enum ValueType : uint32_t { kType = 1, kUnit };
enum Sample : uint32_t { kLocationId = 1, kValue };
enum Mapping : uint32_t {
  kMappingId = 1,
  kMemoryStart,
  kMemoryLimit,
  kFilename = 5,
  kBuildId,
  kHasFunctions,
  kHasFilenames,
  kHasLineNumbers,
  kHasInlineFrames,
};
enum Location : uint32_t { kId = 1, kLocationMapping, kAddress, kLine };
enum Line : uint32_t { kLineFunction = 1, kLineNumber };
enum Function : uint32_t { kFunctionId = 1, kName, kSystemName, kFunctionFile };
}  // namespace pprof_field

class Encoder {
 public:
  explicit Encoder(const HeapProfile& profile) : profile_(profile) {}

  std::string encode();

 private:
  struct Mapping {
    const Module* module = nullptr;
    std::string path;
    std::string build_id;
    bool functions = false;
    bool files = false;
    bool lines = false;
    bool inlined = false;
  };
  using Ids = std::vector<uint32_t>;

  uint64_t string(std::string_view text);
  uint64_t function(const std::string& name, const std::string& file);
  uint64_t mapping(const SymbolFrame& frame);
  uint64_t location(const Ids& chain);
  std::vector<uint64_t> locations(const Ids& stack);
  uint64_t place_of_unknown();
  void find_program();
  void write_value_type(uint32_t field, std::string_view type, std::string_view unit);
  void write_samples();
  void write_mappings();
  void write_head();

  const HeapProfile& profile_;
  ProtobufWriter out_;
  std::vector<std::string> strings_{""};
  std::unordered_map<std::string, uint64_t> string_ids_{{"", 0}};
  std::map<std::pair<std::string, std::string>, uint64_t> functions_;
  std::vector<Mapping> mappings_;  // id - 1
  std::map<std::pair<std::string, std::string>, uint64_t> mapping_ids_;
  std::map<Ids, uint64_t> locations_;
};

uint64_t Encoder::string(std::string_view text) {
  const auto [entry, fresh] = string_ids_.try_emplace(std::string(text), strings_.size());
  if (fresh) {
    strings_.emplace_back(text);
  }
  return entry->second;
}

uint64_t Encoder::function(const std::string& name, const std::string& file) {
  const auto [entry, fresh] = functions_.try_emplace({name, file}, functions_.size() + 1);
  if (fresh) {
    ProtobufWriter message;
    message.number(pprof_field::kFunctionId, entry->second);
    message.number(pprof_field::kName, string(name));
    message.number(pprof_field::kSystemName, string(name));
    message.number(pprof_field::kFunctionFile, string(file));
    out_.message(pprof_field::kFunction, message);
  }
  return entry->second;
}

// 0 for an address in no known module.
uint64_t Encoder::mapping(const SymbolFrame& frame) {
  if (frame.module.empty()) {
    return 0;
  }
  const auto [entry, fresh] =
      mapping_ids_.try_emplace({frame.module, frame.build_id}, mappings_.size() + 1);
  if (fresh) {
    Mapping& mapping = mappings_.emplace_back();
    mapping.path = frame.module;
    mapping.build_id = frame.build_id;
    for (const Module& module : profile_.modules) {
      if (mapping.module == nullptr && to_hex(module.build_id) == frame.build_id &&
          printable_utf8(module.path) == frame.module) {
        mapping.module = &module;
      }
    }
  }
  return entry->second;
}

// One address: the function it is in last, before it those inlined there.
uint64_t Encoder::location(const Ids& chain) {
  const auto [entry, fresh] = locations_.try_emplace(chain, locations_.size() + 1);
  if (!fresh) {
    return entry->second;
  }
  const SymbolFrame& outer = profile_.frames[chain.back()];
  ProtobufWriter message;
  message.number(pprof_field::kId, entry->second);
  const uint64_t mapping_id = mapping(outer);
  message.number(pprof_field::kLocationMapping, mapping_id);
  const Module* module = mapping_id != 0 ? mappings_[mapping_id - 1].module : nullptr;
  const uint64_t bias = module != nullptr ? module->bias : 0;
  message.number(pprof_field::kAddress, outer.offset + bias - (outer.offset != 0 ? 1 : 0));
  for (const uint32_t id : chain) {
    const SymbolFrame& frame = profile_.frames[id];
    if (frame.function.empty()) {
      continue;
    }
    ProtobufWriter line;
    line.number(pprof_field::kLineFunction, function(frame.function, frame.file));
    line.number(pprof_field::kLineNumber, frame.line);
    message.message(pprof_field::kLine, line);
    if (mapping_id != 0) {
      Mapping& known = mappings_[mapping_id - 1];
      known.functions = true;
      known.files = known.files || !frame.file.empty();
      known.lines = known.lines || frame.line != 0;
      known.inlined = known.inlined || frame.inlined;
    }
  }
  out_.message(pprof_field::kLocation, message);
  return entry->second;
}

uint64_t Encoder::place_of_unknown() {
  const auto [entry, fresh] = locations_.try_emplace(Ids(), locations_.size() + 1);
  if (fresh) {
    ProtobufWriter line;
    line.number(pprof_field::kLineFunction, function("(stack not recorded)", ""));
    ProtobufWriter message;
    message.number(pprof_field::kId, entry->second);
    message.message(pprof_field::kLine, line);
    out_.message(pprof_field::kLocation, message);
  }
  return entry->second;
}

std::vector<uint64_t> Encoder::locations(const Ids& stack) {
  std::vector<uint64_t> ids;
  Ids chain;
  for (size_t i = 0; i < stack.size(); ++i) {
    chain.push_back(stack[i]);
    if (!profile_.frames[stack[i]].inlined || i + 1 == stack.size()) {
      ids.push_back(location(chain));
      chain.clear();
    }
  }
  if (ids.empty()) {
    ids.push_back(place_of_unknown());
  }
  return ids;
}

// pprof takes the first mapping for the program.
void Encoder::find_program() {
  for (const Module& module : profile_.modules) {
    if (!profile_.target.exe.empty() && module.path == profile_.target.exe) {
      SymbolFrame frame;
      frame.module = printable_utf8(module.path);
      frame.build_id = to_hex(module.build_id);
      (void)mapping(frame);
      return;
    }
  }
}

void Encoder::write_value_type(uint32_t at, std::string_view type, std::string_view unit) {
  ProtobufWriter message;
  message.number(pprof_field::kType, string(type));
  message.number(pprof_field::kUnit, string(unit));
  out_.message(at, message);
}

void Encoder::write_samples() {
  for (const HeapStack& stack : profile_.stacks) {
    const std::vector<uint64_t> ids = locations(stack.stack);
    const std::array<uint64_t, 4> values = {whole(stack.total_objects), whole(stack.total_bytes),
                                            whole(stack.objects.value), whole(stack.bytes.value)};
    ProtobufWriter message;
    message.packed(pprof_field::kLocationId, ids);
    message.packed(pprof_field::kValue, values);
    out_.message(pprof_field::kSample, message);
  }
}

void Encoder::write_mappings() {
  for (size_t i = 0; i < mappings_.size(); ++i) {
    const Mapping& mapping = mappings_[i];
    ProtobufWriter message;
    message.number(pprof_field::kMappingId, i + 1);
    if (mapping.module != nullptr) {
      message.number(pprof_field::kMemoryStart, mapping.module->start);
      message.number(pprof_field::kMemoryLimit, mapping.module->end);
    }
    message.number(pprof_field::kFilename, string(mapping.path));
    message.number(pprof_field::kBuildId, string(mapping.build_id));
    message.number(pprof_field::kHasFunctions, mapping.functions ? 1 : 0);
    message.number(pprof_field::kHasFilenames, mapping.files ? 1 : 0);
    message.number(pprof_field::kHasLineNumbers, mapping.lines ? 1 : 0);
    message.number(pprof_field::kHasInlineFrames, mapping.inlined ? 1 : 0);
    out_.message(pprof_field::kMapping, message);
  }
}

void Encoder::write_head() {
  const TargetInfo& target = profile_.target;
  write_value_type(pprof_field::kSampleType, "alloc_objects", "count");
  write_value_type(pprof_field::kSampleType, "alloc_space", "bytes");
  write_value_type(pprof_field::kSampleType, "inuse_objects", "count");
  write_value_type(pprof_field::kSampleType, "inuse_space", "bytes");
  write_value_type(pprof_field::kPeriodType, "space", "bytes");
  out_.number(pprof_field::kPeriod, target.sample_interval);
  out_.number(pprof_field::kDefaultSampleType, string("inuse_space"));
  out_.number(pprof_field::kTimeNanos, whole(profile_.time_seconds * 1e9));
  const double start = static_cast<double>(target.start_realtime_ns) / 1e9;
  out_.number(pprof_field::kDurationNanos, whole((profile_.time_seconds - start) * 1e9));
  const std::array<uint64_t, 2> comments = {
      string(fmt::format("slabscope: {} (pid {}), {}", printable_utf8(target.comm), target.pid,
                         to_string(target.state))),
      string(profile_.estimated
                 ? fmt::format("estimates: one stack was taken every {} bytes allocated",
                               target.sample_interval)
                 : std::string("exact: every allocation has its stack"))};
  out_.packed(pprof_field::kComment, comments);
}

std::string Encoder::encode() {
  write_head();
  find_program();
  write_samples();
  write_mappings();
  for (const std::string& text : strings_) {
    out_.text(pprof_field::kStringTable, text);
  }
  return out_.bytes();
}

}  // namespace

std::string heap_pprof_plain(const HeapProfile& profile) {
  return Encoder(profile).encode();
}

std::string heap_pprof(const HeapProfile& profile) {
  return gzip(heap_pprof_plain(profile));
}

Result<std::string> pprof_of_file(const TargetInfo& target, Symbolizer& symbolizer,
                                  const HeapOptions& options) {
  Result<HeapReading> reading = read_heap(target.path);
  if (!reading) {
    return reading.failure();
  }
  reading->snapshot.target.state = target.state;
  HeapOptions with_freed = options;
  with_freed.freed = Freed::kInclude;
  return heap_pprof(build_heap_profile(std::move(*reading), symbolizer, with_freed));
}

}  // namespace slabscope
