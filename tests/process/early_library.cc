// SPDX-License-Identifier: MIT
// A library preloaded beside ours, as fakeroot or libfaketime are: its constructor allocates,
// starts and joins a thread, and forks; it wraps functions of libc and finds the real ones with
// dlsym, which allocates, at the first call whoever makes it; and it allocates after main is over.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdlib>
#include <cstring>

namespace {

void* g_kept = nullptr;
int g_calls = 0;

template <typename Function>
Function next(Function& real, const char* name) {
  if (real == nullptr) {
    free(malloc(300));
    real = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
    free(malloc(3000));
  }
  ++g_calls;
  return real;
}

void* body(void* argument) {
  free(argument);
  return malloc(500);
}

__attribute__((constructor)) void start() {
  g_kept = malloc(5000);
  memset(g_kept, 'k', 5000);
  pthread_t thread{};
  if (pthread_create(&thread, nullptr, body, malloc(50)) == 0) {
    void* result = nullptr;
    pthread_join(thread, &result);
    free(result);
  }
  const pid_t child = fork();
  if (child == 0) {
    free(realloc(malloc(100), 100000));
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    abort();
  }
}

__attribute__((destructor)) void stop() {
  for (int i = 0; i < 5000; ++i) {
    if (static_cast<char*>(g_kept)[i] != 'k') {
      abort();
    }
  }
  free(g_kept);
  free(malloc(70000));
}

}  // namespace

extern "C" {

char* getenv(const char* name) {
  static char* (*real)(const char*) = nullptr;
  return next(real, "getenv")(name);
}

int clock_gettime(clockid_t clock, timespec* now) {
  static int (*real)(clockid_t, timespec*) = nullptr;
  return next(real, "clock_gettime")(clock, now);
}

ssize_t readlink(const char* path, char* buffer, size_t bytes) {
  static ssize_t (*real)(const char*, char*, size_t) = nullptr;
  return next(real, "readlink")(path, buffer, bytes);
}

int open(const char* path, int flags, ...) {
  static int (*real)(const char*, int, ...) = nullptr;
  va_list list;
  va_start(list, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  return next(real, "open")(path, flags, mode);
}

void* mmap(void* address, size_t bytes, int protection, int flags, int file, off_t offset) {
  static void* (*real)(void*, size_t, int, int, int, off_t) = nullptr;
  return next(real, "mmap")(address, bytes, protection, flags, file, offset);
}

int early_library_calls();
int early_library_calls() {
  return g_calls;
}
}
