// SPDX-License-Identifier: MIT
//
// Allocates and frees faster than stacks could be taken as often as was asked for: COUNT times
// SIZE bytes. Then it says "done", waits for a line and ends.
//
//   fast_loop COUNT SIZE

#include <stdlib.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc != 3) {
    return 2;
  }
  const long count = atol(argv[1]);
  const size_t size = (size_t)atol(argv[2]);
  for (long i = 0; i < count; ++i) {
    char* volatile block = malloc(size);
    if (block == NULL) {
      return 1;
    }
    free(block);
  }
  char answer[16];
  return write(STDOUT_FILENO, "done\n", 5) == 5 && read(STDIN_FILENO, answer, 1) >= 0 ? 0 : 1;
}
