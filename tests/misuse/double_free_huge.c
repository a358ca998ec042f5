// stderr: slabscope: (double|invalid) free of 0x
// SPDX-License-Identifier: MIT
// A block with a mapping of its own freed twice: once it is unmapped nobody can tell any more that
// it was ours, so either message is right.
#include "tests/misuse/misuse.h"

int main(void) {
  void* block = opaque(malloc((size_t)512 << 20));
  announce(block);
  free(opaque(block));
  free(opaque(block));
  return 0;
}
