// stderr: slabscope: double free of 0x
// SPDX-License-Identifier: MIT
// A block of several pages freed twice.
#include "tests/misuse/misuse.h"

int main(void) {
  void* block = opaque(malloc(300000));
  announce(block);
  free(opaque(block));
  free(opaque(block));
  return 0;
}
