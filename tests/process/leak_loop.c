// SPDX-License-Identifier: MIT
//
// Grows to a peak of PEAK_OBJECTS, frees most of it, then leaks for ever. `leak_loop abort` aborts
// after a while, `leak_loop misuse` frees twice; else it waits to be killed. After the first
// thousand leaked objects it says "leaking".
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kPeakObjects = 20000, kPeakBytes = 1000, kLeakBytes = 200 };

static void* g_peak[kPeakObjects];
static void* volatile g_lost;

__attribute__((noinline)) void* fill_the_table(void) {
  return malloc(kPeakBytes);
}

__attribute__((noinline)) void leak_one(void) {
  void* lost = malloc(kLeakBytes);
  g_lost = lost;
}

int main(int argc, char** argv) {
  const char* end = argc > 1 ? argv[1] : "";
  for (int i = 0; i < kPeakObjects; ++i)
    g_peak[i] = fill_the_table();
  for (int i = 0; i < kPeakObjects; ++i)
    free(g_peak[i]);
  for (unsigned long count = 1;; ++count) {
    leak_one();
    if (count == 1000 && write(STDOUT_FILENO, "leaking\n", 8) != 8)
      return 1;
    if (count == 2000 && strcmp(end, "abort") == 0)
      abort();
    if (count == 2000 && strcmp(end, "misuse") == 0) {
      void* volatile twice = malloc(50000);
      free(twice);
      free(twice);
    }
    if (count % 1000 == 0)
      usleep(1000);
  }
}
