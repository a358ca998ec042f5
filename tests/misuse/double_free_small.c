// stderr: slabscope: double free of 0x
// SPDX-License-Identifier: MIT
// The same small block freed twice in a row.
#include "tests/misuse/misuse.h"

int main(void) {
  void* block = opaque(malloc(100));
  announce(block);
  free(opaque(block));
  free(opaque(block));
  return 0;
}
