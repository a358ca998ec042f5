// SPDX-License-Identifier: MIT
//
// Threads in system calls of many kinds, each of which must last its time and end as it would have
// without anybody who stops the process: lost.py looks for leaks meanwhile, again and again.
//
//   interrupted   says "ready", works until it hears a line, says "done"; 0 if nothing was cut off

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kMs = 100 };

static atomic_int g_failures;
static atomic_int g_alarms;
static atomic_int g_stop;
static int g_pipe[2];

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void expect(int good, const char* what, int result) {
  if (!good) {
    ++g_failures;
    printf("%s: result %d, %s\n", what, result, strerror(errno));
    fflush(stdout);
  }
}

static struct timespec in_ms(clockid_t clock, long ms) {
  struct timespec when;
  clock_gettime(clock, &when);
  when.tv_nsec += ms * 1000000;
  when.tv_sec += when.tv_nsec / 1000000000;
  when.tv_nsec %= 1000000000;
  return when;
}

// Each call must end by its own timeout, and not before.
static int sleep_once(void) {
  const struct timespec time = {0, kMs * 1000000};
  return nanosleep(&time, NULL);
}
static int poll_once(void) {
  return poll(NULL, 0, kMs);
}
static int select_once(void) {
  struct timeval time = {0, kMs * 1000};
  return select(0, NULL, NULL, NULL, &time);
}
static int epoll_once(void) {
  struct epoll_event event;
  const int set = epoll_create1(0);
  const int result = epoll_wait(set, &event, 1, kMs);
  const int error = errno;
  close(set);
  errno = error;
  return result;
}
static int signal_once(void) {
  const struct timespec time = {0, kMs * 1000000};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  return sigtimedwait(&set, NULL, &time) < 0 && errno == EAGAIN ? 0 : -1;
}
static int semaphore_once(void) {
  sem_t semaphore;
  sem_init(&semaphore, 0, 0);
  const struct timespec when = in_ms(CLOCK_REALTIME, kMs);
  return sem_timedwait(&semaphore, &when) < 0 && errno == ETIMEDOUT ? 0 : -1;
}

struct kind {
  const char* name;
  int (*once)(void);
};
static const struct kind kKinds[] = {
    {"nanosleep", sleep_once},  {"poll", poll_once},           {"select", select_once},
    {"epoll_wait", epoll_once}, {"sigtimedwait", signal_once}, {"sem_timedwait", semaphore_once}};
enum { kKindCount = sizeof kKinds / sizeof kKinds[0] };

static void* wait_thread(void* argument) {
  const struct kind* kind = argument;
  for (int i = 0; !g_stop; ++i) {
    const double begin = now_ms();
    const int result = kind->once();
    expect(result == 0, kind->name, result);
    expect(now_ms() - begin >= kMs - 1, "too short", i);
  }
  return NULL;
}

static void* read_thread(void* unused) {
  char byte = 0;
  const ssize_t got = read(g_pipe[0], &byte, 1);
  expect(got == 1 && byte == 'x', "read", (int)got);
  return unused;
}

static void on_alarm(int number) {
  (void)number;
  ++g_alarms;
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  action.sa_flags = SA_RESTART;
  sigset_t alarms;
  sigemptyset(&alarms);
  sigaddset(&alarms, SIGALRM);
  sigaddset(&alarms, SIGUSR2);
  if (sigaction(SIGALRM, &action, NULL) != 0 || pipe(g_pipe) != 0) {
    return 2;
  }
  // Alarms are for the main thread: with a handler some calls may end early by right.
  pthread_sigmask(SIG_BLOCK, &alarms, NULL);
  pthread_t threads[kKindCount + 1];
  for (int i = 0; i < kKindCount; ++i) {
    pthread_create(&threads[i], NULL, wait_thread, (void*)&kKinds[i]);
  }
  pthread_create(&threads[kKindCount], NULL, read_thread, NULL);
  pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
  const struct itimerval every = {{0, 50000}, {0, 50000}};
  setitimer(ITIMER_REAL, &every, NULL);
  puts("ready");
  fflush(stdout);
  const double begin = now_ms();
  char line[8];
  const ssize_t heard = read(0, line, sizeof line);
  expect(heard == 1, "read of a line", (int)heard);
  g_stop = 1;
  for (int i = 0; i < kKindCount; ++i) {
    pthread_join(threads[i], NULL);
  }
  const double elapsed = now_ms() - begin;
  setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
  expect(write(g_pipe[1], "x", 1) == 1, "write", 0);
  pthread_join(threads[kKindCount], NULL);
  // Alarms that fall together count once; none may be lost beyond that.
  expect(g_alarms >= (int)(elapsed / 50 / 2), "alarms", g_alarms);
  expect(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a child that is not ours", 0);
  puts("done");
  return g_failures == 0 ? 0 : 1;
}
