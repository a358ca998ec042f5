// SPDX-License-Identifier: MIT
//
// A library that is unloaded: what its data alone pointed to is lost with it.

#include <stdlib.h>
#include <string.h>

static void* g_only;

__attribute__((noinline)) static void* definite_with_library(void) {
  return memset(malloc(444), 1, 444);
}

void plugin_leaks(void);
void plugin_leaks(void) {
  g_only = definite_with_library();
}
