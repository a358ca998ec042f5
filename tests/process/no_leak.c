// SPDX-License-Identifier: MIT
// Allocates, and frees all of it.
#include <stdlib.h>

int main(void) {
  void* blocks[1000];
  for (size_t i = 0; i < 1000; ++i) {
    blocks[i] = malloc(1 + i * 37);
  }
  for (size_t i = 0; i < 1000; ++i) {
    free(blocks[i]);
  }
  return 0;
}
