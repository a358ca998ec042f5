// SPDX-License-Identifier: MIT
//
// What does a block cost that must lie on a boundary?
//
// Vectors for SIMD, cache lines and pages, through posix_memalign, aligned_alloc and the aligned
// operator new. An allocator that over-allocates to reach the boundary pays in memory, one that
// leaves its fast path for it in time. Every address is checked.
#include <algorithm>
#include <iterator>
#include <new>
#include <vector>

#include "bench/support/bench.h"

namespace {

using namespace slabscope::bench;

// SIMD registers, cache lines, pairs of them, pages. Not between: Debian's mimalloc 2.0.9 misses
// boundaries of 256 to 1024 bytes, and a comparison needs all to run.
constexpr std::size_t kAlignments[] = {32, 64, 128, 4096};

struct Aligned {
  Block block;
  std::size_t alignment = 0;
  bool by_new = false;

  void allocate(Random& random, std::uint64_t value) {
    const std::size_t first = random.below(std::size(kAlignments));
    const std::size_t second = random.below(std::size(kAlignments));
    alignment = kAlignments[std::min(first, second)];  // a page in one of sixteen
    block.size = alignment * random.between(1, 8);
    const std::size_t way = random.below(3);
    by_new = way == 0;
    if (way == 0)
      block.data = ::operator new (block.size, std::align_val_t{alignment});
    else if (way == 1)
      block.data = std::aligned_alloc(alignment, block.size);
    else if (posix_memalign(&block.data, alignment, block.size) != 0)
      block.data = nullptr;
    if (block.data == nullptr || reinterpret_cast<std::uintptr_t>(block.data) % alignment != 0)
      die("an aligned block is missing or not aligned");
    stamp(block.data, block.size, value);
  }

  std::uint64_t release() {
    if (!by_new)
      return block.release();
    const std::uint64_t value = take_stamp(block.data, block.size);
    ::operator delete (block.data, std::align_val_t{alignment});
    block.data = nullptr;
    return value;
  }
};

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments(argc, argv, "aligned: replace random members of a set of aligned blocks");
  const std::size_t live = arguments.number("live", 2'000, 200, "blocks alive at any time");
  const std::uint64_t ops = arguments.number("ops", 3'000'000, 10'000, "replacements");
  arguments.check();

  Random random(arguments.seed());
  std::vector<Aligned> blocks(live);

  Run run("aligned");
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < ops; ++i) {
    Aligned& victim = blocks[random.below(live)];
    if (victim.block.data != nullptr)
      sum += victim.release();
    victim.allocate(random, i);
  }
  for (Aligned& item : blocks) {
    if (item.block.data != nullptr)
      sum += item.release();
  }
  return run.finish(ops, sum);
}
