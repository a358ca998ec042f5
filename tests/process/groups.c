/* SPDX-License-Identifier: MIT
 *
 * A program with groups of its own, linked with the library: 4 threads in 2 groups allocate at 3
 * places, first from a cache of the program's, then with malloc. Says what it is at and waits for a
 * line, as groups.py asks.
 *
 *   "cache"     the cache's destruction was refused
 *   "refused"   both destructions were refused
 *   "limited"   a limit was met
 *   "destroyed" all is freed, both destructions succeeded
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "slab/slabscope.h"

enum { kThreads = 4, kEach = 5, kPlaces = 3 };

static void* g_objects[kThreads][kPlaces][kEach];
static struct slab_group* g_groups[2];

static struct slab_cache* g_connections;

#define SC_PLACE __attribute__((noinline))

SC_PLACE void* accept_connection(void) {
  return slab_cache_alloc(g_connections);
}
SC_PLACE void* open_connection(void) {
  return slab_cache_zalloc(g_connections);
}
SC_PLACE void* inherit_connection(void) {
  void* object = NULL;
  slab_cache_alloc_bulk(g_connections, 1, &object);
  return object;
}

SC_PLACE void* parse_request(void) {
  return malloc(300);
}
SC_PLACE void* open_session(void) {
  return calloc(1, 3000);
}
SC_PLACE void* read_body(void) {
  return malloc(70000);
}

static void check(int ok, const char* what) {
  if (ok)
    return;
  fprintf(stderr, "groups: %s\n", what);
  exit(1);
}

static void* connecter(void* argument) {
  const size_t number = (size_t)argument;
  slab_group_enter(g_groups[number % 2]);
  for (int i = 0; i < kEach; ++i) {
    g_objects[number][0][i] = accept_connection();
    g_objects[number][1][i] = open_connection();
    g_objects[number][2][i] = inherit_connection();
  }
  slab_group_leave();
  return NULL;
}

static void* worker(void* argument) {
  const size_t number = (size_t)argument;
  slab_group_enter(g_groups[number % 2]);
  for (int i = 0; i < kEach; ++i) {
    g_objects[number][0][i] = parse_request();
    g_objects[number][1][i] = open_session();
    g_objects[number][2][i] = read_body();
  }
  slab_group_leave();
  return NULL;
}

static void say(const char* what) {
  puts(what);
  fflush(stdout);
  (void)getchar();
}

static void in_threads(void* (*body)(void*)) {
  pthread_t threads[kThreads];
  for (size_t i = 0; i < kThreads; ++i)
    check(pthread_create(&threads[i], NULL, body, (void*)i) == 0, "no thread");
  for (size_t i = 0; i < kThreads; ++i)
    pthread_join(threads[i], NULL);
}

static void free_all(void (*give)(void*)) {
  for (size_t i = 0; i < kThreads; ++i) {
    for (int place = 0; place < kPlaces; ++place) {
      for (int k = 0; k < kEach; ++k)
        give(g_objects[i][place][k]);
    }
  }
}

static void close_connection(void* object) {
  check(slab_cache_of(object) == g_connections, "an object of no cache, or of another");
  slab_cache_free(g_connections, object);
}

int main(void) {
  g_groups[0] = slab_group_create("reader");
  g_groups[1] = slab_group_create("writer");
  check(g_groups[0] != NULL && g_groups[1] != NULL, "no groups");
  g_connections = slab_cache_create("connections", 200, NULL);
  check(g_connections != NULL, "no cache");
  in_threads(connecter);
  check(slab_cache_destroy(g_connections) == -EBUSY, "a cache destroyed with objects in use");
  say("cache");
  free_all(close_connection);
  check(slab_cache_destroy(g_connections) == 0, "a cache not destroyed with nothing in use");

  in_threads(worker);
  for (int i = 0; i < 2; ++i)
    check(slab_group_destroy(g_groups[i]) == -EBUSY, "destroyed with objects in use");
  say("refused");

  slab_group_set_limit(g_groups[0], 1 << 20, NULL);
  slab_group_enter(g_groups[0]);
  errno = 0;
  check(malloc(2 << 20) == NULL && errno == ENOMEM, "more than the limit");
  slab_group_leave();
  say("limited");

  free_all(free);
  for (int i = 0; i < 2; ++i)
    check(slab_group_destroy(g_groups[i]) == 0, "not destroyed with nothing in use");
  say("destroyed");
  return 0;
}
