// stderr: slabscope: double free of 0x
// SPDX-License-Identifier: MIT
// A small block freed twice, with a thousand frees of its size between, so that it has long left
// the thread's list; nothing was allocated since.
#include "tests/misuse/misuse.h"

enum { kBlocks = 1000 };

int main(void) {
  void* blocks[kBlocks];
  for (int i = 0; i < kBlocks; ++i) {
    blocks[i] = opaque(malloc(100));
  }
  announce(blocks[0]);
  for (int i = 0; i < kBlocks; ++i) {
    free(opaque(blocks[i]));
  }
  free(opaque(blocks[0]));
  // At the latest when its slab takes it back.
  for (int i = 1; i < kBlocks; ++i) {
    blocks[i] = opaque(malloc(100));
  }
  for (int i = 1; i < kBlocks; ++i) {
    free(opaque(blocks[i]));
  }
  return 0;
}
