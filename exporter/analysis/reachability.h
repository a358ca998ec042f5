// SPDX-License-Identifier: MIT
//
// Reachability: which live objects a root leads to, and which none.
//
//   roots ─► objects they point into ─► objects those point into … ─► kReachable
//   what is left: pointed to by another of them ─► kIndirect, else ─► kLive (definitely lost)
//
// As LeakSanitizer does it: every aligned word that lies in [begin, begin + size) of an object is a
// pointer to it, where size is what was asked for if that is known; one past the end is none; a
// pointer of an object to itself does not count; objects of a cycle are each other's, so all of
// them are indirect. C++'s `new T[0]` is pointed to behind its count.
//
// Object contents are read a run at a time and kept as long as the budget allows.
// Called from: leak_check.cc.

#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

#include "exporter/analysis/heap_image.h"
#include "exporter/analysis/roots.h"
#include "exporter/source/memory_source.h"

namespace slabscope {

class Reachability {
 public:
  // Requested sizes by slot, where they are known: 0 is "unknown", n is n - 1 bytes.
  using Sizes = std::vector<uint64_t>;

  Reachability(const MemorySource& memory, HeapImage& heap, const Sizes& sizes, size_t budget_bytes)
      : memory_(memory), heap_(heap), sizes_(sizes), budget_(budget_bytes) {}

  // Objects that count as roots: what the shim or the loader allocated for itself.
  void add_root(uint64_t slot);
  void mark(const Roots& roots);
  // Once everything is marked: who is lost, and which of them point to which.
  struct Lost {
    std::vector<uint64_t> slots;    // ascending
    std::vector<uint64_t> first;    // of each slot's pointers, and one more
    std::vector<uint32_t> targets;  // slots; an image has fewer than 2^31
  };
  Lost classify();

 private:
  static constexpr uint64_t kStream = 1 << 20;  // larger runs are read in pieces, and not kept
  static constexpr uint64_t kWord = sizeof(uint64_t);

  // Bytes that count of an object.
  uint64_t size_of(const HeapRun& run, uint64_t slot) const;
  std::optional<uint64_t> target(uint64_t word) const;
  void reach(uint64_t word);
  template <typename Visit>
  void visit_object(uint64_t slot, Visit&& visit);
  template <typename Visit>
  void visit_memory(uint64_t begin, uint64_t end, Visit&& visit);
  std::span<const uint64_t> contents(uint32_t run);

  const MemorySource& memory_;
  HeapImage& heap_;
  const Sizes& sizes_;
  size_t budget_;
  size_t kept_bytes_ = 0;
  std::unordered_map<uint32_t, std::vector<uint64_t>> kept_;  // contents by run
  std::vector<uint64_t> grey_;                                // reached, not yet looked into
};

}  // namespace slabscope
