// stderr, of any object: slabscope: double free of 0x
// SPDX-License-Identifier: MIT
// A block freed by the thread that allocated it, and again by another.
#include <pthread.h>

#include "tests/misuse/misuse.h"

static void* free_it(void* block) {
  free(opaque(block));
  // Blocks of this size go back to their slabs, which see the second free at the latest.
  void* blocks[1000];
  for (int i = 0; i < 1000; ++i) {
    blocks[i] = opaque(malloc(100));
  }
  for (int i = 0; i < 1000; ++i) {
    free(opaque(blocks[i]));
  }
  return NULL;
}

int main(void) {
  void* block = opaque(malloc(100));
  announce(block);
  for (int i = 0; i < 2; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, free_it, block) != 0 || pthread_join(thread, NULL) != 0) {
      return 2;
    }
  }
  return 0;
}
