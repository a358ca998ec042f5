// SPDX-License-Identifier: MIT
//
// A C program that knows nothing of debugging: SLABSCOPE_DEBUG says if its caches are. It tells
// what they were made with, and then does what its argument says.

#include <stdio.h>
#include <string.h>

#include "slab/slabscope.h"

// NOLINTBEGIN(readability-identifier-naming): a user's program

static void tell(struct slab_cache* cache) {
  static const char* const attributes[] = {"sanity_checks", "red_zone", "poison", "store_user"};
  printf("%s", slab_cache_name(cache));
  for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); ++i) {
    char text[16];
    if (slab_cache_show(cache, attributes[i], text, sizeof(text)) > 0)
      printf(" %c", text[0]);
  }
  puts("");
  fflush(stdout);
}

char* accept_client(struct slab_cache* connections);
__attribute__((noinline)) char* accept_client(struct slab_cache* connections) {
  char* connection = (char*)slab_cache_zalloc(connections);
  if (connection != NULL)
    connection[0] = 1;
  return connection;
}

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  struct slab_cache* connections = slab_cache_create("connections", 100, NULL);
  struct slab_cache* handles = slab_cache_create("handles", 100, NULL);
  if (connections == NULL || handles == NULL)
    return 1;
  tell(connections);
  tell(handles);
  char* first = accept_client(connections);
  char* last = accept_client(connections);
  if (strcmp(what, "overrun") == 0) {
    first[100] = 'A';
  } else if (strcmp(what, "underrun") == 0) {
    first[-1] = 'A';
  }
  slab_cache_free(connections, first);
  slab_cache_free(connections, last);
  if (strcmp(what, "late") == 0) {
    last[3] = 'A';
  } else if (strcmp(what, "twice") == 0) {
    slab_cache_free(connections, first);
  }
  return slab_cache_destroy(connections) == 0 && slab_cache_destroy(handles) == 0 ? 0 : 2;
}
// NOLINTEND(readability-identifier-naming)
