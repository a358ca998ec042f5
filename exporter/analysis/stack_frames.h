// SPDX-License-Identifier: MIT
//
// StackFrames: symbolized stacks as short lists of numbers, so that millions compare quickly.
//
//   Stack ─► Symbolizer ─► frames without the allocator's own ─► ids ─► one entry a distinct list
//
// Invariants
//   1. Two frames have one id if a reader could not tell them apart: same function, file, line,
//      module; and same offset where there is no line.                             (report_test)
//   2. Strings are clean: printable_utf8() was applied.
//   3. A stack that was not empty is not empty after trimming.
// Called from: heap_profile.cc, output/report.cc.

#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "exporter/analysis/symbolize.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

// Whether the module is libslabscope.so, of whatever version.
[[nodiscard]] bool is_allocator(std::string_view module_path);

class StackFrames {
 public:
  using Ids = std::vector<uint32_t>;

  explicit StackFrames(Symbolizer& symbolizer) : symbolizer_(symbolizer) {}

  // Innermost first, without the allocator's frames at the top.
  [[nodiscard]] Ids ids_of(const Stack& stack);
  [[nodiscard]] const SymbolFrame& frame(uint32_t id) const { return frames_[id]; }
  // All of them, by id; the last call here.
  [[nodiscard]] std::vector<SymbolFrame> take_frames() { return std::move(frames_); }

 private:
  const Ids& ids_at(uint64_t return_address, uint32_t generation);
  uint32_t intern(const SymbolFrame& frame);

  struct Place {
    uint64_t return_address;
    uint32_t generation;
    bool operator==(const Place&) const = default;
  };
  struct PlaceHash {
    size_t operator()(const Place& place) const {
      return std::hash<uint64_t>()(place.return_address * 31 + place.generation);
    }
  };

  Symbolizer& symbolizer_;
  std::vector<SymbolFrame> frames_;
  std::unordered_map<std::string, uint32_t> known_;
  std::unordered_map<Place, Ids, PlaceHash> places_;
};

}  // namespace slabscope
