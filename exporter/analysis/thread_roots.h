// SPDX-License-Identifier: MIT
//
// ThreadRoots: what of a process's memory is its threads' own.
//
//   mapping of a thread:  guard │ unused   stack in use      storage, thread block │ joined
//                               │        ▲ sp - red zone                 ▲ tp      │ mappings
//   of the main thread:   joined │ storage, thread block │ joined      its stack is [stack]
//                                                ▲ tp
//
// The kernel joins anonymous mappings that touch, so the mapping that a pointer of a thread lies in
// may be mostly the program's: an arena of its own, which RootSet::kModules leaves out. Libc puts a
// thread block at the end of the stack that it maps, and it is smaller than a page; so the next
// page boundary ends the thread's memory. The main thread's storage lies where the loader found
// room; its size is the sum over the modules, and what the loader keeps for later ones.
// What lies below the stack pointer is dead; but only a guard page tells where a stack begins.
// Called from: roots.cc.

#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "exporter/analysis/roots.h"
#include "exporter/source/memory_source.h"
#include "exporter/source/stopped_threads.h"

namespace slabscope {

struct ThreadRoots {
  std::vector<uint64_t> words;    // registers
  std::vector<RootRange> ranges;  // neither sorted nor disjoint
  // Of mappings that begin with the unused part of a stack: where it ends.
  std::map<const Mapping*, uint64_t> unused_until;
};

// `storage_bytes`: thread-local storage of all modules.
ThreadRoots find_thread_roots(const MemorySource& memory, const std::vector<Mapping>& mappings,
                              const std::vector<ThreadContext>& threads, uint64_t storage_bytes);

// True if `mapping` begins at a page that cannot be read.
bool has_guard(const std::vector<Mapping>& mappings, const Mapping& mapping);

// The end of the mapping in which libc put a thread's block, but for what was joined to it.
uint64_t end_of_thread(uint64_t thread_pointer);

}  // namespace slabscope
