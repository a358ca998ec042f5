// SPDX-License-Identifier: MIT
//
// What does memory cost that must be zero, small and large?
//
// Small blocks have to be cleared; large ones may come fresh from the kernel, where zero is free
// but the fault is not. Every block is dirtied before it is freed, so that a reused one must be
// cleared, and is looked at when it is new, so that a forgotten clearing is found out.
#include <array>

#include "bench/support/bench.h"

namespace {

constexpr std::size_t kLive = 32;
constexpr std::size_t kStride = 1024;

void expect_zero_then_dirty(unsigned char* bytes, std::size_t size) {
  for (std::size_t at = 0; at < size; at += kStride) {
    if (bytes[at] != 0)
      slabscope::bench::die("calloc returned memory that is not zero");
    bytes[at] = 0xFF;
  }
  if (bytes[size - 1] != 0 && size % kStride != 1)
    slabscope::bench::die("calloc returned memory whose end is not zero");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace slabscope::bench;
  Arguments arguments(argc, argv, "calloc_sizes: replace random members of 32 zeroed blocks");
  const std::size_t smallest = arguments.number("min", 16, 16, "bytes of the smallest block");
  const std::size_t largest = arguments.number("max", 2048, 2048, "bytes of the largest block");
  const std::uint64_t ops = arguments.number("ops", 5'000'000, 5'000, "calls of calloc");
  arguments.check();

  Random random(arguments.seed());
  std::array<Block, kLive> blocks;

  Run run("calloc_sizes");
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < ops; ++i) {
    Block& block = blocks[random.below(kLive)];
    if (block.data != nullptr)
      sum += block.release();
    block.size = random.between(smallest, largest);
    block.data = std::calloc(1, block.size);
    if (block.data == nullptr)
      die("calloc returned null");
    expect_zero_then_dirty(static_cast<unsigned char*>(block.data), block.size);
    stamp(block.data, block.size, i);
  }
  for (Block& block : blocks) {
    if (block.data != nullptr)
      sum += block.release();
  }
  return run.finish(ops, sum);
}
