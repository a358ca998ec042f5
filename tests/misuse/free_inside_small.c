// stderr: slabscope: invalid free of 0x
// SPDX-License-Identifier: MIT
// An address inside a small block instead of its start.
#include "tests/misuse/misuse.h"

int main(void) {
  char* block = opaque(malloc(100));
  void* inside = opaque(block + 16);
  announce(inside);
  free(inside);
  // The thread's list takes it; it is seen when its slab gets it back, which is when the list is
  // full.
  static void* blocks[1000];
  for (int i = 0; i < 1000; ++i) {
    blocks[i] = opaque(malloc(100));
  }
  for (int i = 999; i >= 0; --i) {
    free(opaque(blocks[i]));
  }
  char* others[1000];
  for (int i = 0; i < 1000; ++i) {
    others[i] = opaque(malloc(100));
  }
  for (int i = 999; i >= 0; --i) {
    free(opaque(others[i]));
  }
  return 0;
}
