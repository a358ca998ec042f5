// SPDX-License-Identifier: MIT
//
// A random stream of every operation in every size, by several threads that pass blocks on, against
// a model that knows each block's size and contents. Blocks that overlap or lose bytes end the
// program.
//
//   stress [SEED [SECONDS [THREADS]]]      a failure names its seed
#include <malloc.h>

#include <algorithm>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child.h"

using slabscope::test::fill;
using slabscope::test::filled;

namespace {

struct Block {
  void* address = nullptr;
  size_t bytes = 0;
  unsigned tag = 0;
};

// Blocks on their way from one thread to another.
class Exchange {
 public:
  Block swap(Block block, size_t at) {
    const std::scoped_lock lock(mutex_);
    std::swap(blocks_[at % blocks_.size()], block);
    return block;
  }
  std::vector<Block> take_all() { return std::move(blocks_); }

 private:
  std::mutex mutex_;
  std::vector<Block> blocks_ = std::vector<Block>(500);
};

// Mostly small, at times large: what programs ask for.
size_t random_size(std::mt19937_64& random) {
  const size_t kind = random() % 100;
  if (kind < 70) {
    return random() % 256;
  }
  if (kind < 90) {
    return random() % 4096;
  }
  if (kind < 98) {
    return random() % 65536;
  }
  return random() % (kind == 98 ? 1u << 20 : 6u << 20);
}

// Large blocks are checked at both ends: every byte of a small one is.
constexpr size_t kChecked = 8192;

void mark(Block& block, std::mt19937_64& random) {
  block.tag = static_cast<unsigned>(random());
  if (block.bytes <= 2 * kChecked) {
    fill(block.address, block.bytes, block.tag);
  } else {
    fill(block.address, kChecked, block.tag);
    fill(static_cast<char*>(block.address) + block.bytes - kChecked, kChecked, block.tag);
  }
}

void check(const Block& block) {
  if (block.bytes <= 2 * kChecked) {
    SC_EXPECT(filled(block.address, block.bytes, block.tag));
  } else {
    SC_EXPECT(filled(block.address, kChecked, block.tag));
    SC_EXPECT(
        filled(static_cast<char*>(block.address) + block.bytes - kChecked, kChecked, block.tag));
  }
}

Block allocate(std::mt19937_64& random) {
  Block block;
  block.bytes = random_size(random);
  size_t alignment = 16;
  switch (random() % 6) {
    case 0:
      block.address = calloc(block.bytes, 1);
      SC_EXPECT(block.bytes == 0 || static_cast<char*>(block.address)[block.bytes - 1] == 0);
      break;
    case 1:
      alignment = size_t{16} << random() % 10;
      SC_EXPECT(posix_memalign(&block.address, alignment, block.bytes) == 0);
      break;
    case 2:
      block.address = ::operator new(block.bytes);
      break;
    default:
      block.address = malloc(block.bytes);
      break;
  }
  SC_EXPECT(block.address != nullptr);
  SC_EXPECT(reinterpret_cast<uintptr_t>(block.address) % alignment == 0);
  SC_EXPECT(malloc_usable_size(block.address) >= block.bytes);
  mark(block, random);
  return block;
}

void resize(Block& block, std::mt19937_64& random) {
  check(block);
  const size_t bytes = 1 + random_size(random);
  const size_t common = std::min({bytes, block.bytes, kChecked});
  block.address = realloc(block.address, bytes);
  SC_EXPECT(block.address != nullptr && filled(block.address, common, block.tag));
  block.bytes = bytes;
  mark(block, random);
}

void run(Exchange& exchange, uint64_t seed, double deadline) {
  std::mt19937_64 random(seed);
  std::vector<Block> blocks(3000);
  while (slabscope::test::now_seconds() < deadline) {
    for (int i = 0; i < 2000; ++i) {
      Block& block = blocks[random() % blocks.size()];
      const size_t action = random() % 16;
      if (block.address == nullptr) {
        block = allocate(random);
      } else if (action < 2) {
        resize(block, random);
      } else if (action < 5) {
        block = exchange.swap(block, random());
      } else {
        check(block);
        free(block.address);
        block = {};
      }
    }
    // Now and then all at once, so that slabs empty and memory goes back.
    if (random() % 64 == 0) {
      for (Block& block : blocks) {
        if (block.address != nullptr) {
          check(block);
          free(block.address);
          block = {};
        }
      }
    }
  }
  for (Block& block : blocks) {
    if (block.address != nullptr) {
      check(block);
      free(block.address);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  slabscope::test::expect_preload();
  const uint64_t seed = argc > 1 && *argv[1] != '0' ? std::stoull(argv[1]) : std::random_device{}();
  const double seconds = argc > 2 ? std::stod(argv[2]) : 5;
  const size_t threads = argc > 3 ? std::stoul(argv[3]) : 4;
  slabscope::test::tell(("seed " + std::to_string(seed) + "\n").c_str());
  const double deadline = slabscope::test::now_seconds() + seconds;
  Exchange exchange;
  // Generations of threads, so that blocks outlive those who made them.
  std::mt19937_64 seeds(seed);
  for (int generation = 1; generation <= 4; ++generation) {
    std::vector<std::thread> running;
    for (size_t t = 0; t < threads; ++t) {
      running.emplace_back(run, std::ref(exchange), seeds(),
                           deadline - seconds * (4 - generation) / 4);
    }
    for (auto& thread : running) {
      thread.join();
    }
  }
  for (const Block& block : exchange.take_all()) {
    if (block.address != nullptr) {
      check(block);
      free(block.address);
    }
  }
  return 0;
}
