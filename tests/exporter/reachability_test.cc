// SPDX-License-Identifier: MIT
//
// Roots and Reachability on a heap of which every pointer is known: one case a test.

#include "exporter/analysis/reachability.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <vector>

#include "exporter/analysis/lost_objects.h"
#include "exporter/analysis/roots.h"
#include "tests/exporter/fake_heap.h"

namespace slabscope {
namespace {

using testing::FakeHeap;

constexpr uint64_t kStack = FakeHeap::kBase + 0x120000;
constexpr uint64_t kStackPointer = kStack + 0x800;
constexpr uint64_t kStorage = FakeHeap::kBase + 0x130000;  // thread-local
constexpr uint64_t kModule = FakeHeap::kBase + 0x140000;
constexpr uint64_t kData = kModule + 0x1000;
constexpr uint64_t kMapped = FakeHeap::kBase + 0x150000;
constexpr uint64_t kPage = 4096;

// A process of one thread, one library and one mapping of its own.
class Process : public FakeHeap {
 public:
  explicit Process(uint64_t objects) {
    set_word(0, 0, objects);
    sizes_.assign(64, 0);
    map(kBase, kStack - kPage, false);
    map(kStack, kStack + kPage, true);
    map(kStorage, kStorage + kPage, true);
    add_module();
    map(kMapped, kMapped + kPage, true);
    thread_.stack_pointer = kStackPointer;
    thread_.thread_pointer = kStorage + 0x700;
  }

  void in_register(uint64_t word) { thread_.words.push_back(word); }
  void requested(uint64_t index, uint64_t size) { sizes_[index] = size + 1; }
  void points(uint64_t from, uint64_t to) { put<uint64_t>(object(from), to); }

  // "R", "D" or "I" for each of the first objects.
  std::string classes(RootSet set = RootSet::kAll) {
    Result<HeapImage> heap = HeapImage::read(*this, layout, mappings_);
    EXPECT_TRUE(heap.ok());
    const Roots roots = find_roots(*this, layout, mappings_, {thread_}, *heap, set);
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
  void map(uint64_t begin, uint64_t end, bool data) {
    Mapping& mapping = mappings_.emplace_back();
    mapping.begin = begin;
    mapping.end = end;
    mapping.readable = data;
    mapping.writable = data;
  }
  // Its header and code, then its data.
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
    head.e_phnum = 2;
    head.e_phentsize = sizeof(Elf64_Phdr);
    put(kModule, head);
    Elf64_Phdr segments[2] = {};
    segments[0].p_type = PT_LOAD;
    segments[0].p_flags = PF_R | PF_X;
    segments[1].p_type = PT_LOAD;
    segments[1].p_flags = PF_R | PF_W;
    segments[1].p_vaddr = kData - kModule;
    segments[1].p_memsz = kPage;
    put(kModule + sizeof(head), segments[0]);
    put(kModule + sizeof(head) + sizeof(Elf64_Phdr), segments[1]);
  }

  std::vector<Mapping> mappings_;
  ThreadContext thread_;
  Reachability::Sizes sizes_;
};

TEST(Reachability, WhatNothingLeadsToIsDefinite) {
  EXPECT_EQ(Process(2).classes(), "DD");
}

TEST(Reachability, AChainIsReachableToItsEnd) {
  Process process(3);
  process.put(kStackPointer, Process::object(0));
  process.points(0, Process::object(1));
  process.points(1, Process::object(2));
  EXPECT_EQ(process.classes(), "RRR");
}

TEST(Reachability, ALostChainHangsOnItsHead) {
  Process process(3);
  process.points(2, Process::object(1));
  process.points(1, Process::object(0));
  EXPECT_EQ(process.classes(), "IID");
  EXPECT_EQ(process.lost.slots, (std::vector<uint64_t>{0, 1, 2}));
  EXPECT_EQ(process.lost.first, (std::vector<uint64_t>{0, 0, 1, 2}));
  EXPECT_EQ(process.lost.targets, (std::vector<uint32_t>{0, 1}));
}

TEST(Reachability, ObjectsOfACycleAreEachOthers) {
  Process process(3);
  process.points(0, Process::object(1));
  process.points(1, Process::object(0));
  process.points(2, Process::object(2));
  EXPECT_EQ(process.classes(), "IID") << "a pointer of an object to itself does not count";
}

TEST(Reachability, APointerToTheLastByteCountsAndOnePastTheEndDoesNot) {
  Process process(3);
  process.requested(0, 60);
  process.requested(1, 60);
  process.put(kStackPointer, Process::object(0) + 59);
  process.put(kStackPointer + 8, Process::object(1) + 60);
  EXPECT_EQ(process.classes(), "RDD");
}

TEST(Reachability, WithoutARecordTheWholeSlotCounts) {
  Process process(1);
  process.put(kStackPointer, Process::object(0) + 63);
  EXPECT_EQ(process.classes(), "R");
}

TEST(Reachability, OnlyAlignedWordsArePointers) {
  Process process(2);
  process.put(kStackPointer + 4, Process::object(0));
  process.put(kStackPointer + 16, Process::object(1));
  EXPECT_EQ(process.classes(), "DR");
}

TEST(Reachability, WhatLiesBehindTheRequestedSizeIsNoPointer) {
  Process process(2);
  process.requested(0, 8);
  process.put(kStackPointer, Process::object(0));
  process.put(Process::object(0) + 8, Process::object(1));
  EXPECT_EQ(process.classes(), "RD");
}

TEST(Reachability, AnArrayOfNoneIsHeldByWhatLiesBehindItsCount) {
  Process process(2);
  process.requested(0, 8);
  process.put<uint64_t>(Process::object(0), 0);
  process.put(kStackPointer, Process::object(0) + 8);
  EXPECT_EQ(process.classes(), "RD");
}

TEST(Roots, ARegisterIsOne) {
  Process process(1);
  process.in_register(Process::object(0));
  EXPECT_EQ(process.classes(), "R");
}

TEST(Roots, ThreadLocalStorageIsOne) {
  Process process(1);
  process.put(kStorage + 0x10, Process::object(0));
  EXPECT_EQ(process.classes(RootSet::kModules), "R");
}

TEST(Roots, TheStackIsOneFromTheRedZoneUp) {
  Process process(3);
  process.put(kStackPointer - 128, Process::object(0));
  process.put(kStackPointer - 136, Process::object(1));
  process.put(kStack + kPage - 8, Process::object(2));
  EXPECT_EQ(process.classes(RootSet::kModules), "RDR");
}

TEST(Roots, ModulesDataIsOneAndTheirCodeIsNot) {
  Process process(2);
  process.put(kData + 0x100, Process::object(0));
  process.put(kModule + 0x800, Process::object(1));
  EXPECT_EQ(process.classes(RootSet::kModules), "RD");
}

TEST(Roots, MappedMemoryIsOneUnlessModulesAlone) {
  Process process(1);
  process.put(kMapped, Process::object(0));
  EXPECT_EQ(process.classes(RootSet::kAll), "R");
  EXPECT_EQ(process.classes(RootSet::kModules), "D");
}

TEST(Roots, FreeObjectsLeadNowhere) {
  Process process(3);
  process.set_word(1, 1, 3);  // object 0 is free
  process.put<uint64_t>(Process::object(0), 0);
  process.put(Process::object(0) + 16, Process::object(1));
  process.put(kStackPointer, Process::object(0));
  EXPECT_EQ(process.classes(), "DD");
}

// ---- who leads to whom ------------------------------------------------------------------------

LostObjects graph(const std::vector<std::vector<uint32_t>>& edges) {
  LostObjects lost;
  for (const std::vector<uint32_t>& targets : edges) {
    lost.first.push_back(lost.targets.size());
    lost.targets.insert(lost.targets.end(), targets.begin(), targets.end());
    lost.group.push_back(0);
    lost.bytes.push_back(1);
  }
  lost.first.push_back(lost.targets.size());
  return lost;
}

TEST(LostObjects, EachHasTheMarkOfTheNearestThatLeadsToIt) {
  // 0 ─► 2 ─► 3 ─► 4 ◄─ 1, and 5 ◄─► 6, which nobody leads to.
  const LostObjects lost = graph({{2}, {4}, {3}, {4}, {}, {6}, {5}});
  std::vector<uint32_t> marks(7, kNoMark);
  marks[0] = 10;
  marks[1] = 11;
  spread(lost, marks);
  EXPECT_EQ(marks, (std::vector<uint32_t>{10, 11, 10, 10, 11, kNoMark, kNoMark}));
}

TEST(LostObjects, AMarkIsNeverReplaced) {
  const LostObjects lost = graph({{1}, {0, 2}, {2}});
  std::vector<uint32_t> marks = {1, 2, kNoMark};
  spread(lost, marks);
  EXPECT_EQ(marks, (std::vector<uint32_t>{1, 2, 2}));
}

}  // namespace
}  // namespace slabscope
