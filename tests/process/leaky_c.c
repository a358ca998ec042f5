// SPDX-License-Identifier: MIT
//
// Leaks known amounts at known lines: leaks.py reads the expectations from the comments
// "LEAK objects bytes" and compares them with the report.
#include <stdlib.h>
#include <string.h>

struct node {
  struct node* next;
  char text[56];
};

__attribute__((noinline)) static void* one_large(void) {
  return malloc(300000);  // LEAK 1 300000 one_large
}

__attribute__((noinline)) static void forget_list(int nodes) {
  struct node* list = NULL;
  for (int i = 0; i < nodes; ++i) {
    struct node* node = calloc(1, sizeof *node);  // LEAK 25 1600 forget_list
    node->next = list;
    list = node;
  }
}

__attribute__((noinline)) static char* copy_of(const char* text) {
  char* copy = malloc(strlen(text) + 1);  // LEAK 7 70 copy_of
  strcpy(copy, text);
  return copy;
}

__attribute__((noinline)) static void grow(void) {
  char* block = NULL;
  for (size_t bytes = 100; bytes <= 5000; bytes += 700) {
    block = realloc(block, bytes);  // LEAK 1 5000 grow
    block[bytes - 1] = 'x';
  }
}

int main(int argc, char** argv) {
  (void)argv;
  char* volatile kept = NULL;
  for (int i = 0; i < 7; ++i) {
    kept = copy_of("nine char");
  }
  forget_list(25);
  grow();
  char* volatile large = one_large();
  large[0] = 'x';
  for (int i = 0; i < 1000; ++i) {
    free(copy_of("this one is freed"));
  }
  (void)kept;
  kept = NULL;
  large = NULL;
  return argc > 1 ? 5 : 0;
}
