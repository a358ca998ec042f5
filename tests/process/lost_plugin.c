// SPDX-License-Identifier: MIT
//
// A library that is unloaded: what its data alone pointed to is lost with it. Or one that stays,
// with storage that each thread has of its own.

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

// Too large for the room that the loader keeps beside the storage of modules that were there first.
static __thread void* volatile t_only[2048];

__attribute__((noinline)) static void* reachable_in_late_storage(void) {
  return memset(malloc(445), 1, 445);
}

void plugin_keeps(void);
void plugin_keeps(void) {
  t_only[1000] = reachable_in_late_storage();
}
