// SPDX-License-Identifier: MIT

#include "exporter/analysis/thread_roots.h"

#include <algorithm>

#include "exporter/base/saturating.h"

namespace slabscope {
namespace {

// A thread block has 2304 bytes in glibc 2.36 and grows by a few in each version.
constexpr uint64_t kThreadBlock = kPage;
// The loader keeps 1664 bytes of thread-local storage for modules that are loaded later.
constexpr uint64_t kSurplus = 2048;
constexpr uint64_t kMostModules = 65536;
#if defined(__aarch64__)
constexpr bool kStorageIsAbove = true;
constexpr uint64_t kVectorAt = 0;
#else
constexpr bool kStorageIsAbove = false;
constexpr uint64_t kVectorAt = 8;
#endif

class Finder {
 public:
  Finder(const MemorySource& memory, const std::vector<Mapping>& mappings, uint64_t storage_bytes)
      : memory_(memory),
        mappings_(mappings),
        storage_bytes_(saturating_sum(storage_bytes, kSurplus)) {}

  void add(const ThreadContext& thread);

  ThreadRoots roots;

 private:
  void add_clipped(const Mapping& mapping, uint64_t begin, uint64_t end) {
    roots.ranges.push_back({std::max(begin, mapping.begin), std::min(end, mapping.end)});
  }
  void keep_from(const Mapping& mapping, uint64_t address) {
    if (has_guard(mappings_, mapping)) {
      const auto [at, fresh] = roots.unused_until.emplace(&mapping, address);
      at->second = std::min(at->second, address);
    }
  }
  void add_main_storage(const Mapping& storage, uint64_t thread_pointer);
  void add_left_stack(const ThreadContext& thread, const Mapping* storage);

  const MemorySource& memory_;
  const std::vector<Mapping>& mappings_;
  uint64_t storage_bytes_;
};

void Finder::add(const ThreadContext& thread) {
  roots.words.insert(roots.words.end(), thread.words.begin(), thread.words.end());
  const Mapping* stack = mapping_of(mappings_, thread.stack_pointer);
  const Mapping* storage = mapping_of(mappings_, thread.thread_pointer);
  const bool on_own = thread.is_main
                          ? stack != nullptr && stack->path == "[stack]"
                          : stack == storage && thread.stack_pointer < thread.thread_pointer;
  if (stack != nullptr && stack->readable && stack->writable) {
    const uint64_t begin = saturating_difference(thread.stack_pointer, kRedZone);
    const bool ends_before = on_own && !thread.is_main;
    add_clipped(*stack, begin, ends_before ? end_of_thread(thread.thread_pointer) : stack->end);
    keep_from(*stack, begin);
  }
  if (thread.is_main && storage != nullptr) {
    add_main_storage(*storage, thread.thread_pointer);
  }
  if (!on_own) {
    add_left_stack(thread, storage);
  }
}

// The storage itself, and the vector that leads to that of modules loaded later: the loader took
// its first one from memory of its own.
void Finder::add_main_storage(const Mapping& storage, uint64_t thread_pointer) {
  const uint64_t below = kStorageIsAbove ? kThreadBlock : storage_bytes_;
  const uint64_t above = kStorageIsAbove ? storage_bytes_ : kThreadBlock;
  add_clipped(storage, saturating_difference(thread_pointer, below),
              saturating_sum(thread_pointer, above));
  constexpr uint64_t kEntry = 16;
  const uint64_t vector = memory_.value<uint64_t>(thread_pointer + kVectorAt).value_or(0);
  const Mapping* mapping = mapping_of(mappings_, vector);
  if (mapping != nullptr && mapping->readable) {
    const uint64_t modules = memory_.value<uint64_t>(vector - kEntry).value_or(0);
    add_clipped(*mapping, vector,
                saturating_sum(vector, (std::min(modules, kMostModules) + 1) * kEntry));
  }
}

// A thread that runs elsewhere (a coroutine, a signal stack) has a stack to which it will return;
// how much of it is in use only the thread knows.
void Finder::add_left_stack(const ThreadContext& thread, const Mapping* storage) {
  if (thread.is_main) {
    for (const Mapping& mapping : mappings_) {
      if (mapping.path == "[stack]") {
        add_clipped(mapping, mapping.begin, mapping.end);
      }
    }
  } else if (storage != nullptr && storage->readable && storage->writable) {
    add_clipped(*storage, storage->begin, end_of_thread(thread.thread_pointer));
    keep_from(*storage, storage->begin);
  }
}

}  // namespace

ThreadRoots find_thread_roots(const MemorySource& memory, const std::vector<Mapping>& mappings,
                              const std::vector<ThreadContext>& threads, uint64_t storage_bytes) {
  Finder finder(memory, mappings, storage_bytes);
  for (const ThreadContext& thread : threads) {
    finder.add(thread);
  }
  return std::move(finder.roots);
}

bool has_guard(const std::vector<Mapping>& mappings, const Mapping& mapping) {
  if (&mapping == mappings.data()) {
    return false;
  }
  const Mapping& below = *(&mapping - 1);
  return below.end == mapping.begin && !below.readable && below.file.inode == 0;
}

uint64_t end_of_thread(uint64_t thread_pointer) {
  return saturating_sum(thread_pointer, kPage) / kPage * kPage;
}

}  // namespace slabscope
