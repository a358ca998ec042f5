// SPDX-License-Identifier: MIT
//
// OpStream: random heap operations from a seed, and HeapModel, which performs them and checks.
//
//   seed ─► OpStream ─Op─► HeapModel ─► slab/heap.h
//                             └─ knows each block's place, size and pattern: no overlap, contents
//                                kept, alignment, zeroes, usable size
//
// The same seed gives the same operations. HeapModel::error() names seed and step; set
// SLABSCOPE_TEST_SEED to run the random tests with one seed of your choice. No GoogleTest here: the
// fuzzer uses it too.
//
// What the model knows lies in mappings of its own and not in the C library's malloc: under
// AddressSanitizer that has locks which GCC 12 does not hold over fork(), so a child could find one
// taken for ever by a thread that it does not have.

#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <memory_resource>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "slab/heap.h"

namespace slabscope::testing {

// splitmix64: every seed is good, and 0 too.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t bound) { return next() % bound; }
  bool one_in(uint64_t n) { return below(n) == 0; }

 private:
  uint64_t state_;
};

// The seed that the environment asks for, or `usual`.
inline uint64_t test_seed(uint64_t usual) {
  const char* text = std::getenv("SLABSCOPE_TEST_SEED");
  return text == nullptr ? usual : std::strtoull(text, nullptr, 0);
}

enum class OpKind : uint8_t { kAllocate, kZeroed, kAligned, kReallocate, kFree };

struct Op {
  OpKind kind = OpKind::kAllocate;
  size_t size = 0;
  size_t alignment = 16;
  size_t victim = 0;  // which live block, counted modulo their number
};

class OpStream {
 public:
  // `most_live`: about how many blocks live at a time. `largest`: no larger requests.
  OpStream(uint64_t seed, size_t most_live, size_t largest)
      : random_(seed), most_live_(most_live), largest_(largest) {}

  Op next(size_t live) {
    Op op;
    op.victim = random_.next();
    op.size = size();
    // Around the aim as many come as go; far from it, mostly the one that leads back.
    if (live > 0 && random_.below(2 * most_live_) < live) {
      op.kind = random_.one_in(6) ? OpKind::kReallocate : OpKind::kFree;
      return op;
    }
    switch (random_.below(8)) {
      case 0:
        op.kind = OpKind::kZeroed;
        break;
      case 1:
        op.kind = OpKind::kAligned;
        op.alignment = size_t{1} << random_.below(16);
        break;
      case 2:
        op.kind = live > 0 ? OpKind::kReallocate : OpKind::kAllocate;
        break;
      default:
        break;
    }
    return op;
  }

 private:
  // As programs ask: mostly small, some of any size.
  size_t size() {
    const uint64_t kind = random_.below(100);
    const size_t most = kind < 70 ? 256 : kind < 90 ? 4096 : kind < 98 ? 40000 : largest_;
    return random_.below((most < largest_ ? most : largest_) + 1);
  }

  Random random_;
  size_t most_live_;
  size_t largest_;
};

// Memory that enters no allocator: each request is a mapping, so it is for large ones, as of pools.
class Mappings : public std::pmr::memory_resource {
  void* do_allocate(size_t size, size_t) override {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
      throw std::bad_alloc();
    return memory;
  }
  void do_deallocate(void* memory, size_t size, size_t) override { munmap(memory, size); }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

struct ModelBlock {
  char* address = nullptr;
  size_t size = 0;
  uint64_t pattern = 0;
};

class HeapModel {
 public:
  explicit HeapModel(uint64_t seed) : seed_(seed) {}
  ~HeapModel() { free_all(); }
  HeapModel(const HeapModel&) = delete;
  HeapModel& operator=(const HeapModel&) = delete;

  size_t live() const { return blocks_.size(); }
  const std::string& error() const { return error_; }

  // False if the heap broke a promise; error() then says which.
  bool apply(const Op& op) {
    ++step_;
    switch (op.kind) {
      case OpKind::kFree:
        return live() == 0 || free_one(op.victim % live());
      case OpKind::kReallocate:
        return live() == 0 || reallocate_one(op.victim % live(), op.size);
      case OpKind::kZeroed:
        return enter(allocate_zeroed(op.size), op, 16);
      case OpKind::kAligned:
        return enter(allocate_aligned(op.alignment, op.size), op, op.alignment);
      case OpKind::kAllocate:
        break;
    }
    return enter(allocate(op.size), op, 16);
  }

  // A block for another thread's model, and one from there.
  ModelBlock give(size_t victim) {
    const ModelBlock block = blocks_[victim];
    forget(victim);
    return block;
  }
  bool adopt(const ModelBlock& block) {
    add(block);
    return holds(block, block.size) || fail("contents of a block from another thread", block);
  }

  bool check_all() {
    for (const ModelBlock& block : blocks_) {
      if (!holds(block, block.size))
        return fail("contents", block);
    }
    return true;
  }

  bool free_all() {
    bool good = true;
    while (live() > 0)
      good = free_one(live() - 1) && good;
    return good;
  }

 private:
  bool enter(void* address, const Op& op, size_t alignment) {
    ModelBlock block{static_cast<char*>(address), op.size, (seed_ << 32) ^ ++patterns_};
    if (address == nullptr)
      return fail("no memory", block);
    if (reinterpret_cast<uintptr_t>(address) % (alignment < 16 ? 16 : alignment) != 0) {
      return fail("alignment", block);
    }
    if (usable_size(address) < op.size)
      return fail("usable size", block);
    if (op.kind == OpKind::kZeroed && !zero(block))
      return fail("zeroes", block);
    if (overlaps(block))
      return fail("overlap", block);
    fill(block);
    add(block);
    return true;
  }

  bool free_one(size_t victim) {
    const ModelBlock block = blocks_[victim];
    if (!holds(block, block.size))
      return fail("contents at free", block);
    forget(victim);
    deallocate(block.address);
    return true;
  }

  bool reallocate_one(size_t victim, size_t size) {
    if (size == 0)
      size = 1;
    ModelBlock block = blocks_[victim];
    if (!holds(block, block.size))
      return fail("contents before realloc", block);
    auto* moved = static_cast<char*>(reallocate(block.address, size));
    if (moved == nullptr)
      return fail("no memory for realloc", block);
    forget(victim);
    block.address = moved;
    const size_t kept = block.size < size ? block.size : size;
    block.size = kept;  // the pattern of a large block depends on its size
    if (!holds_prefix(block, kept))
      return fail("contents after realloc", block);
    block.size = size;
    if (usable_size(moved) < size)
      return fail("usable size after realloc", block);
    if (overlaps(block))
      return fail("overlap after realloc", block);
    fill(block);
    add(block);
    return true;
  }

  // Small blocks are written all over, large ones at both ends and once a page.
  static constexpr size_t kWhole = 2048;
  static bool checked(size_t offset, size_t size) {
    return size <= 2 * kWhole || offset < kWhole || offset >= size - kWhole || offset % 4096 == 0;
  }
  static size_t next_offset(size_t offset, size_t size) {
    ++offset;
    if (checked(offset, size))
      return offset;
    const size_t page = (offset + 4095) & ~size_t{4095};
    return page < size - kWhole ? page : size - kWhole;
  }
  static char byte_at(const ModelBlock& block, size_t offset) {
    return static_cast<char>((block.pattern + offset) * 0x9e3779b97f4a7c15 >> 56);
  }
  static void fill(const ModelBlock& block) {
    for (size_t i = 0; i < block.size; i = next_offset(i, block.size)) {
      block.address[i] = byte_at(block, i);
    }
  }
  static bool holds(const ModelBlock& block, size_t size) {
    for (size_t i = 0; i < size; i = next_offset(i, size)) {
      if (block.address[i] != byte_at(block, i))
        return false;
    }
    return true;
  }
  // What both the old and the new size's fill wrote: the first bytes and one a page.
  static bool holds_prefix(const ModelBlock& block, size_t size) {
    for (size_t i = 0; i < size; i += i < kWhole ? 1 : 4096 - i % 4096) {
      if (i < kWhole || i % 4096 == 0) {
        if (block.address[i] != byte_at(block, i))
          return false;
      }
    }
    return true;
  }
  static bool zero(const ModelBlock& block) {
    return block.size == 0 || (block.address[0] == 0 &&
                               std::memcmp(block.address, block.address + 1, block.size - 1) == 0);
  }

  bool overlaps(const ModelBlock& block) const {
    const auto after = by_address_.lower_bound(block.address);
    const size_t size = block.size > 0 ? block.size : 1;
    if (after != by_address_.end() && after->first < block.address + size)
      return true;
    if (after == by_address_.begin())
      return false;
    const auto before = std::prev(after);
    return before->first + before->second > block.address;
  }
  void add(const ModelBlock& block) {
    blocks_.push_back(block);
    by_address_[block.address] = block.size > 0 ? block.size : 1;
  }
  void forget(size_t victim) {
    by_address_.erase(blocks_[victim].address);
    blocks_[victim] = blocks_.back();
    blocks_.pop_back();
  }

  bool fail(const char* what, const ModelBlock& block) {
    error_ = std::string(what) + ": block of " + std::to_string(block.size) + " bytes at " +
             std::to_string(reinterpret_cast<uintptr_t>(block.address)) + ", step " +
             std::to_string(step_) + ", SLABSCOPE_TEST_SEED=" + std::to_string(seed_);
    return false;
  }

  uint64_t seed_;
  uint64_t step_ = 0;
  uint64_t patterns_ = 0;
  Mappings mappings_;
  std::pmr::unsynchronized_pool_resource memory_{&mappings_};
  std::pmr::vector<ModelBlock> blocks_{&memory_};
  std::pmr::map<char*, size_t> by_address_{&memory_};
  std::string error_;
};

}  // namespace slabscope::testing
