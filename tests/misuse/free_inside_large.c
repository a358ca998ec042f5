// stderr: slabscope: (invalid|double) free of 0x
// SPDX-License-Identifier: MIT
// An address inside a large block instead of its start.
#include "tests/misuse/misuse.h"

int main(void) {
  char* block = opaque(malloc(300000));
  void* inside = opaque(block + 8192);
  announce(inside);
  free(inside);
  return 0;
}
