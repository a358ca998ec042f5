// stderr: slabscope: invalid free of 0x
// SPDX-License-Identifier: MIT
// An address inside a small block instead of its start.
#include "tests/misuse/misuse.h"

int main(void) {
  char* block = opaque(malloc(100));
  void* inside = opaque(block + 16);
  announce(inside);
  free(inside);
  // At the latest when its slab takes it back.
  void* blocks[1000];
  for (int i = 0; i < 1000; ++i) {
    blocks[i] = opaque(malloc(100));
  }
  for (int i = 0; i < 1000; ++i) {
    free(opaque(blocks[i]));
  }
  return 0;
}
