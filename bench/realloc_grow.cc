// SPDX-License-Identifier: MIT
//
// What does growth by realloc cost, for one long array and for many short ones side by side?
//
// One array growing by half can be extended in place or moved by the page tables; a thousand
// strings growing by a few bytes in turn can only be moved, unless the block had room to spare.
#include <vector>

#include "bench/support/bench.h"

namespace {

constexpr std::size_t kFirst = 16;

// Writes all of the new part, as a program that grows an array does.
void fill(void* data, std::size_t from, std::size_t to, std::uint64_t value) {
  std::memset(static_cast<unsigned char*>(data) + from, static_cast<int>(value & 0xFF), to - from);
  slabscope::bench::stamp(data, to, value);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace slabscope::bench;
  Arguments arguments(argc, argv, "realloc_grow: arrays that grow until they reach a limit");
  const std::size_t arrays = arguments.number("arrays", 1, 1, "arrays growing in turn");
  const std::size_t step =
      arguments.number("step", 0, 0, "bytes to add each time; 0: grow by half");
  const std::size_t limit =
      arguments.number("limit", 8u << 20, 1u << 20, "an array longer than this starts again");
  const std::uint64_t ops = arguments.number("ops", 12'000, 300, "calls of realloc");
  arguments.check();

  Random random(arguments.seed());
  std::vector<Block> blocks(arrays);

  Run run("realloc_grow");
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < arrays; ++i)
    blocks[i].allocate(kFirst, i);
  for (std::uint64_t i = 0; i < ops; ++i) {
    Block& block = blocks[random.below(arrays)];
    if (block.size > limit) {
      sum += block.release();
      block.allocate(kFirst, i);
    }
    sum += take_stamp(block.data, block.size);
    const std::size_t longer = block.size + (step != 0 ? step : block.size / 2 + 8);
    block.data = std::realloc(block.data, longer);
    if (block.data == nullptr)
      die("realloc returned null");
    fill(block.data, block.size, longer, i);
    block.size = longer;
  }
  for (Block& block : blocks)
    sum += block.release();
  return run.finish(ops, sum);
}
