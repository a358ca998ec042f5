// SPDX-License-Identifier: MIT
//
// A C program that is linked with libslabscope.so and keeps its connections in a cache. Objects
// from three places in four threads remain: a first destroy names them all, a second one succeeds.

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "slab/slabscope.h"

// NOLINTBEGIN(readability-identifier-naming): a user's program

struct connection {
  int number;
  char buffer[300];
};

enum { kThreads = 4, kEach = 5, kPlaces = 3 };

static struct slab_cache* connections;
static struct connection* open_connections[kThreads][kPlaces][kEach];

#define PLACE(name)                                                                    \
  __attribute__((noinline)) struct connection* name(int number) {                      \
    struct connection* connection = (struct connection*)slab_cache_alloc(connections); \
    if (connection != NULL)                                                            \
      connection->number = number;                                                     \
    return connection;                                                                 \
  }
struct connection* accept_client(int number);
struct connection* dial_upstream(int number);
struct connection* reopen(int number);
PLACE(accept_client)
PLACE(dial_upstream)
PLACE(reopen)

static void* serve(void* argument) {
  const int thread = *(int*)argument;
  for (int i = 0; i < kEach; ++i) {
    open_connections[thread][0][i] = accept_client(i);
    open_connections[thread][1][i] = dial_upstream(i);
    open_connections[thread][2][i] = reopen(i);
    slab_cache_free(connections, accept_client(i));  // closed again: no part of the report
  }
  return NULL;
}

#define CHECK(condition)                                                           \
  do {                                                                             \
    if (!(condition)) {                                                            \
      fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, strerror(errno)); \
      return 1;                                                                    \
    }                                                                              \
  } while (0)

int main(void) {
  const struct slab_cache_args args = {.align = 64, .flags = SLAB_STORE_USER};
  connections = slab_cache_create("connections", sizeof(struct connection), &args);
  CHECK(connections != NULL);

  pthread_t threads[kThreads];
  int numbers[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    numbers[i] = i;
    CHECK(pthread_create(&threads[i], NULL, serve, &numbers[i]) == 0);
  }
  for (int i = 0; i < kThreads; ++i)
    CHECK(pthread_join(threads[i], NULL) == 0);

  CHECK(slab_cache_destroy(connections) == -EBUSY);
  struct slab_cache_stats stats;
  CHECK(slab_cache_get_stats(connections, &stats) == 0);
  CHECK(stats.active_objects == kThreads * kPlaces * kEach);
  puts("refused");
  char text[4096];
  CHECK(slab_cache_show(connections, "alloc_calls", text, sizeof(text)) < (int)sizeof(text));
  printf("%s\n", text);
  CHECK(slab_cache_show(connections, "free_calls", text, sizeof(text)) > 0);
  printf("%s", text);
  fflush(stdout);
  (void)getchar();  // somebody looks at the scope file

  for (int i = 0; i < kThreads; ++i)
    slab_cache_free_bulk(connections, kPlaces * kEach, (void**)open_connections[i]);
  CHECK(slab_cache_destroy(connections) == 0);

  struct slab_cache* sessions = slab_cache_create("sessions", 100, NULL);
  CHECK(sessions != NULL);
  void* last = slab_cache_zalloc(sessions);
  CHECK(slab_cache_destroy_detach(sessions) == 1);
  const struct slab_cache_args merge = {.flags = SLAB_MERGE};
  struct slab_cache* tokens = slab_cache_create("tokens", 80, &merge);
  struct slab_cache* nonces = slab_cache_create("nonces", 76, &merge);
  void* token = slab_cache_alloc(tokens);
  CHECK(token != NULL && slab_cache_of(token) != tokens);  // it is of what both share
  puts("detached");
  fflush(stdout);
  (void)getchar();
  slab_cache_free(nonces, token);
  CHECK(slab_cache_destroy(tokens) == 0 && slab_cache_destroy(nonces) == 0);
  slab_cache_free(sessions, last);
  puts("released");
  fflush(stdout);
  (void)getchar();
  return 0;
}
// NOLINTEND(readability-identifier-naming)
