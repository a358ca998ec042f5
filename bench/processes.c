// SPDX-License-Identifier: MIT
//
// What does an allocator cost a program that does nothing?
//
// Runs /bin/true again and again. This program is static, so that a preloaded library is loaded by
// the children alone; its own line counts them. Scripts and builds live on such processes.
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

extern char** environ;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

int main(int argc, char** argv) {
  long count = 100;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--smoke") == 0) {
      count = 5;
    } else if (strcmp(argv[i], "--count") == 0 && i + 1 < argc) {
      count = strtol(argv[++i], NULL, 10);
    } else {
      printf(
          "processes: run /bin/true again and again\n\n  --count N  times (100)\n  --smoke  5\n");
      return strcmp(argv[i], "--help") == 0 ? 0 : 1;
    }
  }
  const double started = now();
  for (long i = 0; i < count; ++i) {
    char program[] = "/bin/true";
    char* arguments[] = {program, NULL};
    pid_t child = 0;
    int status = 0;
    if (posix_spawn(&child, program, NULL, NULL, arguments, environ) != 0 ||
        waitpid(child, &status, 0) != child || status != 0) {
      fprintf(stderr, "bench: /bin/true failed\n");
      return 1;
    }
  }
  printf("{\"bench\": \"processes\", \"ops\": %ld, \"seconds\": %.6f, \"checksum\": \"%016lx\"}\n",
         count, now() - started, (unsigned long)count);
  return 0;
}
