// SPDX-License-Identifier: MIT
//
// Allocates a known number of objects and waits at each step for a line on stdin:
//   "ready" - 1000 objects of 100 bytes - "allocated" - frees 400 of them - "freed"
//   - a thread allocates 500 more and ends - "thread" - exit
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kObjects = 1000, kFreed = 400, kByThread = 500, kBytes = 100 };

static void* g_objects[kObjects];
static void* g_others[kByThread];

static void say(const char* word) {
  char answer[16];
  if (write(STDOUT_FILENO, word, strlen(word)) < 0 || read(STDIN_FILENO, answer, 1) != 1) {
    _exit(1);
  }
}

static void* allocate_others(void* unused) {
  for (int i = 0; i < kByThread; ++i) {
    g_others[i] = malloc(kBytes);
  }
  return unused;
}

int main(void) {
  free(malloc(1));  // a process that has allocated can be seen (docs/decisions/0009)
  say("ready\n");
  for (int i = 0; i < kObjects; ++i) {
    g_objects[i] = malloc(kBytes);
  }
  say("allocated\n");
  for (int i = 0; i < kFreed; ++i) {
    free(g_objects[i]);
  }
  say("freed\n");
  pthread_t thread;
  if (pthread_create(&thread, NULL, allocate_others, NULL) != 0 ||
      pthread_join(thread, NULL) != 0) {
    return 1;
  }
  say("thread\n");
  return 0;
}
