// stderr: slabscope: invalid free of 0x
// SPDX-License-Identifier: MIT
// The address of a static object.
#include "tests/misuse/misuse.h"

static char g_text[64] = "static";

int main(void) {
  void* block = opaque(g_text);
  announce(block);
  free(block);
  return 0;
}
