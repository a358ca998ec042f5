// SPDX-License-Identifier: MIT
//
// How many instructions are a malloc and a free? (Run by bench/instructions under callgrind.)
//
// The same loop with and without the calls, so that the difference of two runs of different length
// is the calls alone: argument, call, PLT entry, allocator, return. Nothing is stamped or checked.
#include <array>

#include "bench/support/bench.h"

namespace {

using namespace slabscope::bench;

constexpr std::size_t kBatch = 64;

// The pointer goes through a register the compiler knows nothing of, so that neither loop can be
// folded; with and without calls the loops differ in the calls only.
inline void* hide(void* pointer) {
  asm volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

// NOLINTBEGIN(clang-analyzer-*): the analyser takes what hide() hides for leaked
template <bool kCalls>
void lifo(std::uint64_t pairs, std::size_t size) {
  for (std::uint64_t i = 0; i < pairs; ++i) {
    void* block = hide(kCalls ? std::malloc(size) : &i);
    if constexpr (kCalls)
      std::free(block);
  }
}

template <bool kCalls>
void batches(std::uint64_t pairs, const std::array<std::size_t, kBatch>& sizes) {
  std::array<void*, kBatch> blocks;
  for (std::uint64_t done = 0; done < pairs; done += kBatch) {
    for (std::size_t i = 0; i < kBatch; ++i)
      blocks[i] = hide(kCalls ? std::malloc(sizes[i]) : &done);
    for (std::size_t i = 0; i < kBatch; ++i) {
      void* block = hide(blocks[i]);
      if constexpr (kCalls)
        std::free(block);
    }
  }
}
// NOLINTEND(clang-analyzer-*)

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments(argc, argv, "pairs: bare loops whose instructions are counted");
  const std::string shape = arguments.word("shape", "lifo", "'lifo' or 'batch'");
  const std::string calls = arguments.word("calls", "yes", "'no' runs the same loop empty");
  const std::size_t size = arguments.number("size", 16, 16, "bytes; 0 in a batch: mixed sizes");
  const std::uint64_t pairs = arguments.number("pairs", 64'000, 6'400, "pairs, a multiple of 64");
  arguments.check();

  Random random(arguments.seed());
  std::array<std::size_t, kBatch> sizes{};
  for (std::size_t& item : sizes)
    item = size != 0 ? size : skewed_size(random);
  Run run("pairs");
  if (shape == "lifo")
    calls == "yes" ? lifo<true>(pairs, size) : lifo<false>(pairs, size);
  else
    calls == "yes" ? batches<true>(pairs, sizes) : batches<false>(pairs, sizes);
  return run.finish(pairs, 0);
}
