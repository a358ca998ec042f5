// SPDX-License-Identifier: MIT
//
// As lost_c.c, for places that a pointer may lie in: memory that the kernel joined to a thread's,
// a stack that its thread has left for another, storage of a library that came later, objects of
// the program's own caches. A name that begins with mapped_ promises: lost for LeakSanitizer and
// for --roots modules, reachable where all mapped memory is a root.
//
//   lost_places live|end PLUGIN   says "ready" and waits for a line, or ends at once

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define SC_CASE __attribute__((noinline)) static

enum { kMapped = 1 << 16 };

static __thread int t_mine;
static int g_live;
static void* volatile g_kept[8];

// ---- memory beside a thread's -----------------------------------------------------------------

// New memory that touches the mapping which holds `address`, on whichever side is free.
static void** map_beside(void* address) {
  FILE* maps = fopen("/proc/self/maps", "r");
  const uintptr_t wanted = (uintptr_t)address;
  unsigned long begin = 0;
  unsigned long end = 0;
  char line[512];
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
    if (sscanf(line, "%lx-%lx", &begin, &end) == 2 && begin <= wanted && wanted < end) {
      break;
    }
  }
  if (maps != NULL) {
    fclose(maps);
  }
  const uintptr_t sides[] = {begin - kMapped, end, 0};
  for (int i = 0; i < 3; ++i) {
    const int fixed = sides[i] == 0 ? 0 : MAP_FIXED_NOREPLACE;
    void* memory = mmap((void*)sides[i], kMapped, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);
    if (memory != MAP_FAILED) {
      return memory;
    }
  }
  abort();
}

SC_CASE void mapped_beside_main(void) {
  void** memory = map_beside(&t_mine);
  memory[kMapped / 16] = malloc(601);
}
SC_CASE void mapped_beside_stack(void) {
  void** memory = map_beside(&t_mine);
  memory[kMapped / 16] = malloc(602);
}
SC_CASE void* reachable_in_storage(void) {
  return calloc(1, 603);
}

static __thread void* t_kept;
static pthread_barrier_t g_barrier;

static void* beside_stack(void* unused) {
  t_kept = reachable_in_storage();
  mapped_beside_stack();
  // What the calls left below is not to be found.
  volatile char below[8192];
  memset((char*)below, 0, sizeof below);
  pthread_barrier_wait(&g_barrier);
  for (;;) {
    pause();
  }
  return unused;
}

// ---- storage of a library that came later -----------------------------------------------------

static void late_library(const char* path) {
  void* handle = dlopen(path, RTLD_NOW);
  if (handle == NULL) {
    abort();
  }
  void (*keep)(void) = NULL;
  *(void**)&keep = dlsym(handle, "plugin_keeps");
  keep();
}

// ---- objects of a cache of the program's own --------------------------------------------------

typedef void* create_function(const char* name, size_t size, const void* arguments);
typedef void* alloc_function(void* cache);
static void* g_cache;
static alloc_function* g_alloc;

static void make_cache(void) {
  create_function* create = NULL;
  *(void**)&create = dlsym(RTLD_DEFAULT, "slab_cache_create");
  *(void**)&g_alloc = dlsym(RTLD_DEFAULT, "slab_cache_alloc");
  g_cache = create == NULL ? NULL : create("conns", 136, NULL);
}
// From malloc, where nobody has caches: for LeakSanitizer.
SC_CASE void** cached(void) {
  return memset(g_cache == NULL ? malloc(136) : g_alloc(g_cache), 0, 136);
}
SC_CASE void reachable_cached(void) {
  g_kept[1] = cached();
}
SC_CASE void** indirect_cached(void) {
  return cached();
}
SC_CASE void definite_cached(void) {
  for (int i = 0; i < 3; ++i) {
    cached();
  }
  void** owner = cached();
  owner[2] = (char*)indirect_cached() + 100;
}

// ---- a stack that was left --------------------------------------------------------------------

static ucontext_t g_main;
static ucontext_t g_other;

// What is left of pointers below the stack pointer.
SC_CASE void clear(void) {
  volatile char below[32768];
  memset((char*)below, 0, sizeof below);
}

static void elsewhere(void) {
  clear();
  if (g_live) {
    const char ready[] = "ready\n";
    char line[8];
    if (write(1, ready, sizeof ready - 1) < 0 || read(0, line, sizeof line) < 0) {
      exit(1);
    }
  }
  exit(0);
}

SC_CASE void reachable_on_left_stack(void) {
  enum { kGuard = 4096, kStack = 1 << 17 };
  void* volatile held = calloc(1, 604);
  // Between guards, or the kernel may join it to memory that is not to count.
  char* stack = mmap(NULL, kStack + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (held == NULL || mprotect(stack + kGuard, kStack, PROT_READ | PROT_WRITE) != 0) {
    abort();
  }
  getcontext(&g_other);
  g_other.uc_stack.ss_sp = stack + kGuard;
  g_other.uc_stack.ss_size = kStack;
  g_other.uc_link = NULL;
  makecontext(&g_other, elsewhere, 0);
  swapcontext(&g_main, &g_other);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    return 2;
  }
  g_live = strcmp(argv[1], "live") == 0;
  t_mine = 1;
  mapped_beside_main();
  late_library(argv[2]);
  make_cache();
  reachable_cached();
  definite_cached();
  pthread_barrier_init(&g_barrier, NULL, 2);
  pthread_t thread;
  pthread_create(&thread, NULL, beside_stack, NULL);
  pthread_barrier_wait(&g_barrier);
  clear();
  reachable_on_left_stack();
  return 1;
}
