/* SPDX-License-Identifier: MIT
 *
 * Threads with names, in a program that knows nothing of groups; groups.py looks at it under
 * SLABSCOPE_GROUP_BY=thread. Says what it is at and waits for a line.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { kWorkers = 2, kBlocks = 100 };

static void* g_blocks[kWorkers][kBlocks * kWorkers];
static pthread_barrier_t g_barrier;

static void* worker(void* argument) {
  const size_t number = (size_t)argument;
  char name[16];
  snprintf(name, sizeof name, "worker-%zu", number);
  free(malloc(2000)); /* before it has its name */
  pthread_setname_np(pthread_self(), name);
  for (size_t i = 0; i < kBlocks * number; ++i)
    g_blocks[number - 1][i] = malloc(1024);
  pthread_barrier_wait(&g_barrier);
  pthread_barrier_wait(&g_barrier);
  return NULL;
}

static void say(const char* what) {
  puts(what);
  fflush(stdout);
  (void)getchar();
}

int main(void) {
  pthread_t threads[kWorkers];
  pthread_barrier_init(&g_barrier, NULL, kWorkers + 1);
  for (size_t i = 0; i < kWorkers; ++i)
    pthread_create(&threads[i], NULL, worker, (void*)(i + 1));
  pthread_barrier_wait(&g_barrier);
  say("allocated");
  pthread_barrier_wait(&g_barrier);
  for (size_t i = 0; i < kWorkers; ++i)
    pthread_join(threads[i], NULL);
  say("ended");
  for (size_t i = 0; i < kWorkers; ++i) {
    for (size_t k = 0; k < kBlocks * kWorkers; ++k)
      free(g_blocks[i][k]);
  }
  /* Visits to the slow path, where groups are looked at now and then. */
  for (size_t i = 0; i < 20000; ++i)
    free(malloc(100000));
  say("freed");
  return 0;
}
