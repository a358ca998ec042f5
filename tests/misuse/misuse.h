// SPDX-License-Identifier: MIT
//
// For programs that misuse memory on purpose. The first line of each says, as a regular expression,
// what is expected on stderr; misuse.py also compares the address with the announced one.
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// Hides a pointer's origin from the compiler, which would warn of what these programs do.
static inline void* opaque(void* block) {
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}

// Tells misuse.py the address that the message must name.
static inline void announce(void* block) {
  char text[32];
  const int length = snprintf(text, sizeof text, "%p\n", block);
  if (write(STDOUT_FILENO, text, (size_t)length) != length) {
    _exit(2);
  }
}
