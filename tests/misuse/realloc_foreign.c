// stderr: slabscope: (invalid free of|no block starts at) 0x
// SPDX-License-Identifier: MIT
// realloc of an address that no allocation returned.
#include "tests/misuse/misuse.h"

int main(void) {
  char text[64];
  void* block = opaque(text);
  announce(block);
  block = opaque(realloc(block, 100));
  return block == NULL;
}
