// SPDX-License-Identifier: MIT
//
// Process: a FakeHeap with threads, a module and mappings around it, each a test's to arrange.

#pragma once

#include <elf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "exporter/analysis/reachability.h"
#include "exporter/analysis/roots.h"
#include "tests/exporter/fake_heap.h"

namespace slabscope::testing {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kStack = FakeHeap::kBase + 0x120000;
constexpr uint64_t kStackPointer = kStack + 0x800;
constexpr uint64_t kStorage = FakeHeap::kBase + 0x130000;  // thread-local, and what was joined
constexpr uint64_t kThreadPointer = kStorage + 2 * kPage + 0x700;
constexpr uint64_t kModule = FakeHeap::kBase + 0x140000;
constexpr uint64_t kData = kModule + 0x1000;
constexpr uint64_t kMapped = FakeHeap::kBase + 0x150000;
constexpr uint64_t kGuarded = FakeHeap::kBase + 0x160000;  // four pages above one that is a guard
constexpr uint64_t kModuleStorage = 0x300;                 // thread-local bytes of the module

// A process of one thread, one library and one mapping of its own.
class Process : public FakeHeap {
 public:
  explicit Process(uint64_t objects) {
    set_word(0, 0, objects);
    sizes_.assign(64, 0);
    map(kBase, kStack - kPage, false);
    map(kStack, kStack + kPage, true);
    mappings_.back().path = "[stack]";
    map(kStorage, kStorage + 5 * kPage, true);
    add_module();
    map(kMapped, kMapped + kPage, true);
    map(kGuarded - kPage, kGuarded, false);
    map(kGuarded, kGuarded + 4 * kPage, true);
    add_thread(kStackPointer, kThreadPointer);
    threads_[0].is_main = true;
  }

  void add_thread(uint64_t stack_pointer, uint64_t thread_pointer) {
    ThreadContext& thread = threads_.emplace_back();
    thread.stack_pointer = stack_pointer;
    thread.thread_pointer = thread_pointer;
  }
  void main_runs_at(uint64_t stack_pointer) { threads_[0].stack_pointer = stack_pointer; }
  void in_register(uint64_t word) { threads_[0].words.push_back(word); }
  void share_mapped() { mapping_at(kMapped).shared = true; }
  void module_is(const std::string& path) { mapping_at(kModule).path = path; }
  void requested(uint64_t index, uint64_t size) { sizes_[index] = size + 1; }
  void points(uint64_t from, uint64_t to) { put<uint64_t>(object(from), to); }

  // "R", "D" or "I" for each of the first objects.
  std::string classes(RootSet set = RootSet::kAll) {
    Result<HeapImage> heap = HeapImage::read(*this, layout, mappings_);
    EXPECT_TRUE(heap.ok());
    const Roots roots = find_roots(*this, layout, mappings_, threads_, *heap, set);
    Reachability reachability(*this, *heap, sizes_, 1 << 20);
    reachability.mark(roots);
    lost = reachability.classify();
    std::string result;
    for (uint64_t slot = 0; slot < heap->slots(); ++slot) {
      switch (heap->state(slot)) {
        case SlotState::kFree:
          break;
        case SlotState::kLive:
          result += 'D';
          break;
        case SlotState::kReachable:
          result += 'R';
          break;
        case SlotState::kIndirect:
          result += 'I';
          break;
      }
    }
    return result;
  }

  Reachability::Lost lost;

 private:
  Mapping& mapping_at(uint64_t begin) {
    return *std::find_if(mappings_.begin(), mappings_.end(),
                         [&](const Mapping& mapping) { return mapping.begin == begin; });
  }
  void map(uint64_t begin, uint64_t end, bool data) {
    Mapping& mapping = mappings_.emplace_back();
    mapping.begin = begin;
    mapping.end = end;
    mapping.readable = data;
    mapping.writable = data;
  }
  // Its header and code, then its data, which begins with its dynamic section.
  void add_module() {
    map(kModule, kModule + kPage, true);
    mappings_.back().writable = false;
    mappings_.back().executable = true;
    mappings_.back().file = {1, 77};
    mappings_.back().path = "/lib/libmodule.so";
    map(kData, kData + kPage, true);
    Elf64_Ehdr head{};
    std::memcpy(head.e_ident, ELFMAG, SELFMAG);
    head.e_ident[EI_CLASS] = ELFCLASS64;
    head.e_type = ET_DYN;
    head.e_phoff = sizeof(head);
    head.e_phnum = 4;
    head.e_phentsize = sizeof(Elf64_Phdr);
    put(kModule, head);
    std::array<Elf64_Phdr, 4> segments{};
    segments[0].p_type = PT_LOAD;
    segments[0].p_flags = PF_R | PF_X;
    segments[0].p_memsz = kPage;
    segments[1].p_type = PT_LOAD;
    segments[1].p_flags = PF_R | PF_W;
    segments[1].p_vaddr = kData - kModule;
    segments[1].p_memsz = kPage;
    segments[2].p_type = PT_TLS;
    segments[2].p_memsz = kModuleStorage;
    segments[3].p_type = PT_DYNAMIC;
    segments[3].p_vaddr = kData - kModule;
    put(kModule + sizeof(head), segments);
  }

  std::vector<Mapping> mappings_;
  std::vector<ThreadContext> threads_;
  Reachability::Sizes sizes_;
};

}  // namespace slabscope::testing
