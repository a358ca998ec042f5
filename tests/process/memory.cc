// SPDX-License-Identifier: MIT
//
// Memory comes back, is taken lazily, and does not grow without need: what a user sees in top(1).
#include <malloc.h>
#include <stdio.h>
#include <sys/mman.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include "tests/support/child.h"

using slabscope::test::eventually;
using slabscope::test::opaque;

namespace {

constexpr size_t kMiB = size_t{1} << 20;

// Private memory only: the scope file's pages are counted as shared.
size_t resident() {
  char text[128] = {};
  FILE* file = fopen("/proc/self/statm", "r");
  SC_EXPECT(file != nullptr && fgets(text, sizeof text, file) != nullptr);
  fclose(file);
  size_t total = 0;
  size_t pages = 0;
  size_t shared = 0;
  SC_EXPECT(sscanf(text, "%zu %zu %zu", &total, &pages, &shared) == 3);
  return (pages - shared) * 4096;
}

// The program goes on with its life, a little malloc now and then; memory must come back meanwhile.
bool comes_back(size_t limit) {
  return eventually(
      [limit] {
        for (size_t i = 0; i < 2000; ++i) {
          free(opaque(malloc(1 + i * 17 % 5000)));
        }
        return resident() < limit;
      },
      20);
}

void after_large_blocks() {
  const size_t before = resident();
  std::vector<void*> blocks;
  for (int i = 0; i < 64; ++i) {
    blocks.push_back(malloc(8 * kMiB));
    memset(blocks.back(), 1, 8 * kMiB);
  }
  SC_EXPECT(resident() > before + 300 * kMiB);  // some of it is what was freed before
  for (void* block : blocks) {
    free(block);
  }
  SC_EXPECT(comes_back(before + 128 * kMiB));
}

void after_small_blocks() {
  const size_t before = resident();
  {
    std::vector<void*> blocks(size_t{512} * kMiB / 128);
    for (auto& block : blocks) {
      block = malloc(100);
      memset(block, 1, 100);
    }
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(1));
    for (void* block : blocks) {
      free(block);
    }
  }
  SC_EXPECT(comes_back(before + 128 * kMiB));
}

void trim_gives_back_now() {
  const size_t before = resident();
  std::vector<void*> blocks(100000);
  for (auto& block : blocks) {
    block = malloc(1000);
    memset(block, 1, 1000);
  }
  for (void* block : blocks) {
    free(block);
  }
  malloc_trim(0);
  SC_EXPECT(resident() < before + 48 * kMiB);
}

void large_calloc_is_lazy() {
  const size_t before = resident();
  std::vector<void*> blocks;
  for (int i = 0; i < 4; ++i) {
    blocks.push_back(opaque(calloc(kMiB, 1024)));
    SC_EXPECT(blocks.back() != nullptr);
  }
  SC_EXPECT(resident() < before + 16 * kMiB);
  for (void* block : blocks) {
    free(block);
  }
}

// Growing to 256 MiB by steps of 64 KiB: linear, because pages move instead of bytes.
void realloc_grows_in_linear_time() {
  const double start = slabscope::test::now_seconds();
  char* block = nullptr;
  for (size_t bytes = 65536; bytes <= 256 * kMiB; bytes += 65536) {
    block = static_cast<char*>(realloc(block, bytes));
    SC_EXPECT(block != nullptr);
    block[bytes - 1] = 'x';
  }
  free(block);
  SC_EXPECT(slabscope::test::now_seconds() - start < 3);
}

// Blocks that are allocated by one thread and freed by another, round after round, are used again.
void a_producer_does_not_grow() {
  size_t early = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<void*> blocks(5000);
    for (size_t i = 0; i < blocks.size(); ++i) {
      blocks[i] = malloc(1 + i * 7 % 2000);
      memset(blocks[i], 1, 1);
    }
    std::thread([&blocks] {
      for (void* block : blocks) {
        free(block);
      }
    }).join();
    if (round == 20) {
      early = resident();
    }
  }
  SC_EXPECT(resident() < early + 16 * kMiB);
}

// A program that locks its memory: what is mapped later is locked too, as far as the limit goes.
void locked_memory() {
  SC_EXPECT(slabscope::test::exited(slabscope::test::in_child([] {
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
      return;  // not permitted here
    }
    for (int i = 0; i < 1000; ++i) {
      void* block = malloc(5000);
      SC_EXPECT(block != nullptr);
      memset(block, 1, 5000);
    }
    SC_EXPECT(resident() < 512 * kMiB);
  })));
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  large_calloc_is_lazy();
  realloc_grows_in_linear_time();
  a_producer_does_not_grow();
  trim_gives_back_now();
  after_small_blocks();
  after_large_blocks();
  locked_memory();
  return 0;
}
