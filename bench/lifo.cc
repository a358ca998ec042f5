// SPDX-License-Identifier: MIT
//
// What does the shortest life cost: a block of one size is taken and given back at once?
//
// Every allocator has a path for this; the figure is the floor of what a call can cost. Nothing is
// ever cold, so a good figure here says nothing about a real program; a bad one says a lot.
#include "bench/support/bench.h"

int main(int argc, char** argv) {
  using namespace slabscope::bench;
  Arguments arguments(argc, argv, "lifo: malloc and free of one block, again and again");
  const std::size_t size = arguments.number("size", 64, 64, "bytes of the block");
  const std::uint64_t ops = arguments.number("ops", 40'000'000, 20'000, "pairs of malloc and free");
  arguments.check();

  Run run("lifo");
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < ops; ++i) {
    void* block = stamped_malloc(size, i);
    keep(block);
    sum += take_stamp(block, size);
    std::free(block);
  }
  return run.finish(ops, sum);
}
