// SPDX-License-Identifier: MIT
//
// HeapImage: every live object of a process, found in its memory from outside.
//
//   abi::HeapLayout ─► segments ─► chunks ─► slabs ─► slots: carved, minus the slab's chain
//                                       └──► large blocks       minus what lies on threads' lists
//                 └──► huge table ─► mappings
//
// A slot is a place for an object: each slab has `capacity` of them, a large block or a mapping
// one.
//
//   run │ begin, bytes, object_size, first_slot ─► state[first_slot + (address - begin) / size]
//
// Invariants
//   1. Runs do not overlap and are sorted by address; each lies where the process has memory.
//   2. Every walk ends, whatever the memory says: lists take one live slot a step, tables have
//      limits, a record that contradicts itself is left out and counted.         (heap_image_test)
// Called from: leak_check.cc. Reads through a MemorySource alone.

#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "diag/abi/heap_layout.h"
#include "exporter/base/result.h"
#include "exporter/source/memory_source.h"

namespace slabscope {

enum class SlotState : uint8_t {
  kFree = 0,
  kLive = 1,       // not reached so far
  kReachable = 2,  // a root leads to it
  kIndirect = 3,   // only objects lead to it that nothing reaches
};

struct HeapRun {
  uint64_t begin = 0;
  uint64_t bytes = 0;
  uint64_t object_size = 0;  // of each slot
  uint64_t first_slot = 0;
  uint32_t capacity = 0;
  uint32_t cache = 0;
  bool tracked = false;  // each live object has a record in the scope file
};

class HeapImage {
 public:
  static Result<HeapImage> read(const MemorySource& memory, const abi::HeapLayout& layout,
                                const std::vector<Mapping>& mappings);

  struct Place {
    uint32_t run;
    uint64_t slot;
  };
  // The live object whose slot holds `address`.
  std::optional<Place> find(uint64_t address) const {
    const uint64_t offset = address - window_begin_;
    const uint32_t run =
        offset < window_bytes_ ? run_at(offset >> chunk_shift_) : find_outside(address);
    if (run == kNoRun) {
      return std::nullopt;
    }
    const HeapRun& found = runs_[run];
    const uint64_t index = (address - found.begin) / found.object_size;
    if (index >= found.capacity || states_[found.first_slot + index] == SlotState::kFree) {
      return std::nullopt;
    }
    return Place{run, found.first_slot + index};
  }

  const std::vector<HeapRun>& runs() const { return runs_; }
  uint32_t run_of(uint64_t slot) const;
  uint64_t address_of(const HeapRun& run, uint64_t slot) const {
    return run.begin + (slot - run.first_slot) * run.object_size;
  }
  uint64_t slots() const { return states_.size(); }
  SlotState state(uint64_t slot) const { return states_[slot]; }
  void set_state(uint64_t slot, SlotState state) { states_[slot] = state; }

  // Records and lists that contradicted themselves and were left out.
  uint64_t damaged() const { return damaged_; }
  // [begin, end) of what the page heap's window can hold.
  uint64_t window_begin() const { return window_begin_; }
  uint64_t window_end() const { return window_begin_ + window_bytes_; }

 private:
  friend class HeapReader;
  static constexpr uint32_t kNoRun = UINT32_MAX;

  uint32_t run_at(uint64_t chunk) const {
    const uint64_t segment = chunk / chunks_per_segment_;
    if (segment >= segments_.size() || segments_[segment].empty()) {
      return kNoRun;
    }
    return segments_[segment][chunk % chunks_per_segment_];
  }
  uint32_t find_outside(uint64_t address) const;

  uint64_t window_begin_ = 0;
  uint64_t window_bytes_ = 0;
  uint32_t chunk_shift_ = 0;
  uint32_t chunks_per_segment_ = 1;
  std::vector<HeapRun> runs_;
  std::vector<std::vector<uint32_t>> segments_;  // run of each chunk; empty: none
  std::vector<uint32_t> outside_;                // runs outside the window, by address
  std::vector<SlotState> states_;
  uint64_t damaged_ = 0;
};

}  // namespace slabscope
