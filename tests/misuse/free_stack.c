// stderr: slabscope: invalid free of 0x
// SPDX-License-Identifier: MIT
// An address on the stack.
#include "tests/misuse/misuse.h"

int main(void) {
  char text[64];
  void* block = opaque(text);
  announce(block);
  free(block);
  return 0;
}
