// SPDX-License-Identifier: MIT
//
// Forks, starts threads, loads and unloads a library, and allocates, all the time: what a leak
// check has to cope with. `restless FILE LIBRARY` counts its rounds in FILE, three u64: forks,
// threads, loads. It ends when stdin does: 0 if everything went as it should, else one line says
// what did not.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kObjects = 200 };

static atomic_int g_stop;
static _Atomic uint64_t* g_rounds;
static const char* g_library;

static void wrong(const char* what) {
  fprintf(stderr, "restless: %s: %s\n", what, strerror(errno));
  _exit(1);
}

static unsigned sum(void) {
  unsigned char* objects[kObjects];
  unsigned total = 0;
  for (int i = 0; i < kObjects; ++i) {
    objects[i] = malloc(16 + (size_t)i * 5);
    objects[i][0] = (unsigned char)i;
  }
  for (int i = 0; i < kObjects; ++i) {
    total += objects[i][0];
    free(objects[i]);
  }
  return total;
}

static void* fork_often(void* unused) {
  const unsigned expected = sum();
  while (!atomic_load(&g_stop)) {
    const pid_t child = fork();
    if (child < 0)
      wrong("fork");
    if (child == 0)
      _exit(sum() == expected ? 7 : 1);
    int status = 0;
    if (waitpid(child, &status, 0) != child)
      wrong("waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7)
      wrong("a child's exit code");
    atomic_fetch_add(&g_rounds[0], 1);
  }
  return unused;
}

static void* short_life(void* expected) {
  if (sum() != *(unsigned*)expected)
    wrong("a sum in a thread");
  return NULL;
}

static void* start_threads(void* unused) {
  unsigned expected = sum();
  while (!atomic_load(&g_stop)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, short_life, &expected) != 0)
      wrong("pthread_create");
    pthread_join(thread, NULL);
    atomic_fetch_add(&g_rounds[1], 1);
  }
  return unused;
}

static void* load_often(void* unused) {
  while (!atomic_load(&g_stop)) {
    void* library = dlopen(g_library, RTLD_NOW);
    if (library == NULL)
      wrong(dlerror());
    dlclose(library);
    atomic_fetch_add(&g_rounds[2], 1);
  }
  return unused;
}

// Sleeps in system calls that a stop must not end early or with an error.
static void* wait_for_nothing(void* unused) {
  while (!atomic_load(&g_stop)) {
    struct pollfd none = {.fd = -1};
    if (poll(&none, 1, 20) != 0)
      wrong("poll");
  }
  return unused;
}

int main(int argc, char** argv) {
  if (argc != 3)
    return 2;
  g_library = argv[2];
  const int file = open(argv[1], O_RDWR);
  g_rounds = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (file < 0 || g_rounds == MAP_FAILED)
    wrong(argv[1]);
  void* (*const bodies[])(void*) = {fork_often, start_threads, load_often, wait_for_nothing,
                                    start_threads};
  pthread_t threads[sizeof(bodies) / sizeof(bodies[0])];
  for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); ++i) {
    if (pthread_create(&threads[i], NULL, bodies[i], NULL) != 0)
      wrong("pthread_create");
  }
  puts("ready");
  fflush(stdout);
  char end[16];
  while (read(STDIN_FILENO, end, sizeof(end)) > 0) {
  }
  if (errno == EINTR)
    wrong("read");
  atomic_store(&g_stop, 1);
  for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); ++i)
    pthread_join(threads[i], NULL);
  errno = 0;
  if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
    wrong("a child that is not ours");
  return 0;
}
