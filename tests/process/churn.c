// SPDX-License-Identifier: MIT
//
// Threads that allocate and free all the time, for tools that ask something of them meanwhile:
//   "ready" - a line - they stop, each with KEPT objects of 100 bytes - "stopped" - a line -
//   one more round of allocations by the main thread - "again" - a line - exit
// `churn idle` starts no threads: nothing is allocated until the first line.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kThreads = 3, kKept = 700, kSizes = 40 };

static atomic_int g_stop;
static void* g_kept[kThreads][kKept];

static void say(const char* word) {
  char answer[16];
  if (write(STDOUT_FILENO, word, strlen(word)) < 0 || read(STDIN_FILENO, answer, 1) != 1) {
    _exit(1);
  }
}

static void* churn(void* argument) {
  void** kept = argument;
  unsigned turn = 0;
  while (!atomic_load(&g_stop)) {
    void* objects[kSizes];
    for (unsigned i = 0; i < kSizes; ++i)
      objects[i] = malloc(16 + 64 * ((i + turn) % kSizes));
    for (unsigned i = 0; i < kSizes; ++i)
      free(objects[i]);
    ++turn;
    void** place = &kept[turn % kKept];  // an object that lives for a while
    free(*place);
    *place = malloc(100);
  }
  for (unsigned i = 0; i < kKept; ++i) {
    if (kept[i] == NULL)
      kept[i] = malloc(100);
  }
  return NULL;
}

int main(int argc, char** argv) {
  const int idle = argc > 1 && strcmp(argv[1], "idle") == 0;
  pthread_t threads[kThreads];
  free(malloc(1));
  for (int i = 0; i < kThreads && !idle; ++i) {
    if (pthread_create(&threads[i], NULL, churn, g_kept[i]) != 0)
      return 1;
  }
  say("ready\n");
  atomic_store(&g_stop, 1);
  for (int i = 0; i < kThreads && !idle; ++i)
    pthread_join(threads[i], NULL);
  say("stopped\n");
  for (int i = 0; i < 1000; ++i)
    free(malloc((size_t)(i % 30) * 1000));
  say("again\n");
  return 0;
}
