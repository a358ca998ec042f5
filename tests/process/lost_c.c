// SPDX-License-Identifier: MIT
//
// Objects whose class is known, one case a function whose name says what it is: definite_,
// indirect_ or reachable_ first. lost.py compares what `slabscope leaks` says, case by case,
// with the names, and with LeakSanitizer on the same source. Built without optimization: what is
// kept must be kept, and what is lost must not linger in a register.
//
//   lost_c [live|end] [PLUGIN]   says "ready" and waits for a line, or ends at once

#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct node {
  struct node* next;
  char payload[40];
};

#define CASE __attribute__((noinline)) static

static void* volatile g_kept[64];
static int g_next;
static __thread void* t_kept;
static __thread char t_padding[256];
static char* g_interior;

static void keep(void* p) {
  g_kept[g_next++] = p;
}

// ---- reachable ------------------------------------------------------------------------------

CASE void reachable_list(void) {
  struct node* head = NULL;
  for (int i = 0; i < 100; ++i) {
    struct node* fresh = malloc(sizeof *fresh);
    fresh->next = head;
    head = fresh;
  }
  keep(head);
}
CASE void reachable_interior(void) {
  g_interior = (char*)calloc(1, 500) + 499;
}
CASE void reachable_first_byte_of_none(void) {
  keep(malloc(0));
}
CASE void reachable_in_tls(void) {
  t_kept = calloc(3, 33);
  t_padding[0] = 1;
}
CASE void reachable_large(void) {
  void** large = malloc(200000);
  large[24999] = NULL;
  keep(large);
}
CASE void* reachable_by_large(void) {
  void** large = g_kept[g_next - 1];
  large[24000] = calloc(1, 77);
  return NULL;
}
CASE void reachable_huge(void) {
  char** huge = malloc(40 << 20);
  huge[(39 << 20) / 8] = calloc(1, 55);
  keep(huge);
}
CASE void reachable_aligned(void) {
  void* p = NULL;
  if (posix_memalign(&p, 4096, 3000) == 0) {
    keep(memset(p, 0, 3000));
  }
  keep(memset(memalign(256, 100), 0, 100));
}
CASE void reachable_realloced(void) {
  char* p = malloc(20);
  p = realloc(p, 2000);
  keep(memset(realloc(p, 300), 0, 300));
}

// ---- definitely lost --------------------------------------------------------------------------

CASE void definite_small(void) {
  for (int i = 0; i < 7; ++i) {
    memset(malloc(64), 1, 64);
  }
}
CASE void definite_calloced(void) {
  memset(calloc(5, 100), 2, 10);
}
CASE void definite_aligned(void) {
  void* p = aligned_alloc(1024, 2048);
  memset(p, 3, 2048);
}
CASE void definite_realloced(void) {
  char* p = malloc(24);
  p = realloc(p, 5000);
  memset(p, 4, 5000);
}
CASE void definite_large(void) {
  memset(malloc(100000), 5, 100000);
}
CASE void definite_huge(void) {
  memset(malloc(35 << 20), 6, 4096);
}
CASE void definite_one_past_the_end(void) {
  // Of a size of its own, or another object begins there.
  g_kept[g_next++] = (char*)calloc(1, 880) + 880;
}
CASE void definite_none(void) {
  void* volatile p = malloc(0);
  if (p != NULL) {
    p = NULL;
  }
}
CASE struct node* definite_head(void) {
  struct node* head = malloc(sizeof *head);
  memset(head, 0, sizeof *head);
  return head;
}
CASE void definite_to_itself(void) {
  struct node* self = malloc(sizeof *self);
  memset(self, 0, sizeof *self);
  self->next = self;
}

// ---- indirectly lost ----------------------------------------------------------------------------

CASE void indirect_tail(void) {
  struct node* last = definite_head();
  for (int i = 0; i < 9; ++i) {
    last->next = calloc(1, sizeof *last);
    last = last->next;
  }
}
CASE void indirect_cycle(void) {
  struct node* a = calloc(1, 80);
  struct node* b = calloc(1, 90);
  struct node* c = calloc(1, 100);
  a->next = b;
  b->next = c;
  c->next = a;
}
CASE char* indirect_by_interior(void) {
  return (char*)calloc(1, 700) + 350;
}
CASE void definite_of_interior(void) {
  char** owner = calloc(1, 16);
  owner[1] = indirect_by_interior();
}

// ---- threads ------------------------------------------------------------------------------------

static pthread_barrier_t g_barrier;

CASE void* reachable_on_stack(void* unused) {
  void* volatile held = calloc(1, 123);
  (void)unused;
  pthread_barrier_wait(&g_barrier);
  for (;;) {
    pause();
  }
  return held;
}
CASE void* reachable_in_register(void* unused) {
  (void)unused;
  void* held = calloc(1, 321);
  pthread_barrier_wait(&g_barrier);
#if defined(__x86_64__)
  // rbx holds it, and nothing else; the system call is pause().
  __asm__ volatile(
      "mov %0, %%rbx\n"
      "movq $0, %0\n"
      "1: mov $34, %%eax\n"
      "syscall\n"
      "jmp 1b\n"
      : "+m"(held)
      :
      : "rax", "rbx", "rcx", "r11", "memory");
#else
  for (;;) {
    pause();
  }
#endif
  return held;
}
CASE void* definite_on_ended_stack(void* unused) {
  void* volatile held[4] = {malloc(222), NULL, NULL, NULL};
  (void)held;
  return unused;
}
CASE void* definite_in_ended_tls(void* unused) {
  t_kept = malloc(333);
  return unused;
}

static void in_thread(void* (*body)(void*)) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, NULL) != 0) {
    abort();
  }
  pthread_join(thread, NULL);
}

static void threads(void) {
  in_thread(definite_on_ended_stack);
  in_thread(definite_in_ended_tls);
  pthread_barrier_init(&g_barrier, NULL, 3);
  pthread_t thread;
  pthread_create(&thread, NULL, reachable_on_stack, NULL);
  pthread_create(&thread, NULL, reachable_in_register, NULL);
  pthread_barrier_wait(&g_barrier);
}

// ---- a library that is gone -----------------------------------------------------------------

static void library(const char* path) {
  void* handle = dlopen(path, RTLD_NOW);
  if (handle == NULL) {
    abort();
  }
  void (*leak)(void) = NULL;
  *(void**)&leak = dlsym(handle, "plugin_leaks");
  leak();
  dlclose(handle);
}

// What is left of pointers below the stack pointer and in registers.
CASE void clear(void) {
  volatile char below[32768];
  memset((char*)below, 0, sizeof below);
}

int main(int argc, char** argv) {
  reachable_list();
  reachable_interior();
  reachable_first_byte_of_none();
  reachable_in_tls();
  reachable_large();
  reachable_by_large();
  reachable_huge();
  reachable_aligned();
  reachable_realloced();
  definite_small();
  definite_calloced();
  definite_aligned();
  definite_realloced();
  definite_large();
  definite_huge();
  definite_one_past_the_end();
  definite_none();
  definite_to_itself();
  indirect_tail();
  indirect_cycle();
  definite_of_interior();
  if (argc > 2) {
    library(argv[2]);
  }
  threads();
  clear();
  if (argc > 1 && strcmp(argv[1], "live") == 0) {
    const char ready[] = "ready\n";
    char line[8];
    if (write(1, ready, sizeof ready - 1) < 0 || read(0, line, sizeof line) < 0) {
      return 1;
    }
  }
  return 0;
}
