// SPDX-License-Identifier: MIT
//
// launch RESULT PROGRAM [ARGUMENT…]: runs PROGRAM and writes what it cost to the file RESULT.
//
// A process starts with the peak RSS of the one that forked it, so a harness of 20 MiB cannot
// measure a program of 2 MiB. This one is static and has less than any program it starts. Being
// static it also ignores LD_PRELOAD, which the program inherits. What the program's own children
// cost is included once it has waited for them; the peak RSS is that of the largest process.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static double seconds(struct timeval time) {
  return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: launch RESULT PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  const double started = now();
  const pid_t child = fork();
  if (child < 0) {
    perror("launch: fork");
    return 2;
  }
  if (child == 0) {
    execvp(argv[2], argv + 2);
    fprintf(stderr, "launch: %s: %s\n", argv[2], strerror(errno));
    _exit(127);
  }
  int status = 0;
  struct rusage usage;
  while (wait4(child, &status, 0, &usage) != child) {
    if (errno != EINTR) {
      perror("launch: wait4");
      return 2;
    }
  }
  const double wall = now() - started;
  FILE* result = fopen(argv[1], "w");
  if (result == NULL) {
    perror(argv[1]);
    return 2;
  }
  fprintf(result,
          "{\"exit\": %d, \"signal\": %d, \"wall_s\": %.6f, \"user_s\": %.6f, \"system_s\": %.6f, "
          "\"max_rss_kib\": %ld, \"minor_faults\": %ld, \"major_faults\": %ld, "
          "\"voluntary_switches\": %ld, \"involuntary_switches\": %ld}\n",
          WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0,
          wall, seconds(usage.ru_utime), seconds(usage.ru_stime), usage.ru_maxrss, usage.ru_minflt,
          usage.ru_majflt, usage.ru_nvcsw, usage.ru_nivcsw);
  return fclose(result) == 0 ? 0 : 2;
}
