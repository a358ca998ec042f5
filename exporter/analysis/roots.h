// SPDX-License-Identifier: MIT
//
// Roots: the memory from which a program can still reach its objects.
//
//   registers of all threads         every word, vector registers too
//   stacks                           from the stack pointer, less the red zone, upwards
//   thread-local storage             and the block around the thread pointer
//   the loader's list of modules     it leads to all that the loader keeps in the heap
//   modules' data                    writable parts of mapped binaries, and the .bss behind
//   other anonymous memory           with RootSet::kAll: what the program mapped for itself
//
// Not: the heap (objects are reached, not roots), the shim's data and tables, free mappings it
// keeps, what lies below a stack pointer, stacks of ended threads, shared memory.
//
// LeakSanitizer stops before the last line: an object to which only a page of mmap leads is lost
// for it. That makes false reports of every program with an arena of its own, so kAll is the
// default; docs/decisions/0010 has the reasons. Stacks that libc keeps of ended threads are known
// by their guard page and thread block; of these only the block's own pointer is a root, as libc
// uses it again.
// Called from: leak_check.cc.

#pragma once

#include <cstdint>
#include <vector>

#include "diag/abi/heap_layout.h"
#include "exporter/analysis/heap_image.h"
#include "exporter/source/memory_source.h"
#include "exporter/source/stopped_threads.h"

namespace slabscope {

enum class RootSet : uint8_t {
  kModules,  // as LeakSanitizer
  kAll,
};

struct RootRange {
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct Roots {
  std::vector<RootRange> ranges;  // sorted, disjoint, aligned to 8 bytes
  std::vector<uint64_t> words;    // from registers and thread blocks
};

Roots find_roots(const MemorySource& memory, const abi::HeapLayout& layout,
                 const std::vector<Mapping>& mappings, const std::vector<ThreadContext>& threads,
                 const HeapImage& heap, RootSet set);

}  // namespace slabscope
