// SPDX-License-Identifier: MIT
//
// A program that is not linked with libslabscope.so: it uses object caches when it runs under
// LD_PRELOAD, and malloc when it does not.

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slab/slabscope.h"

// NOLINTBEGIN(readability-identifier-naming): a user's program

static struct slab_cache* (*create)(const char*, size_t, const struct slab_cache_args*);
static void* (*take)(struct slab_cache*);
static void (*give)(struct slab_cache*, void*);
static int (*destroy)(struct slab_cache*);

// ISO C has no conversion from an object's pointer to a function's.
static int find(const char* name, void* function) {
  void* symbol = dlsym(RTLD_DEFAULT, name);
  memcpy(function, &symbol, sizeof symbol);
  return symbol != NULL;
}

static int have_caches(void) {
  return find("slab_cache_create", &create) && find("slab_cache_alloc", &take) &&
         find("slab_cache_free", &give) && find("slab_cache_destroy", &destroy);
}

int main(void) {
  struct slab_cache* nodes = have_caches() ? create("nodes", 48, NULL) : NULL;
  void* first = nodes != NULL ? take(nodes) : malloc(48);
  if (first == NULL)
    return 1;
  memset(first, 1, 48);
  if (nodes == NULL) {
    free(first);
    puts("malloc");
    return 0;
  }
  if (destroy(nodes) != -EBUSY)
    return 2;
  give(nodes, first);
  if (destroy(nodes) != 0)
    return 3;
  puts("caches");
  return 0;
}
// NOLINTEND(readability-identifier-naming)
