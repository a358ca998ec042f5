// SPDX-License-Identifier: MIT
//
// How much memory does a byte take?
//
// For each of two dozen sizes a child process fills 16 MiB with blocks of that size, writes to all
// of them and looks at what became resident. The excess is what size classes round up, what
// headers and slabs take and what is mapped ahead; small sizes, and those just above a power of
// two, show the most. The line reports the mean and the worst, in thousandths of what was asked.
#include <sys/wait.h>
#include <unistd.h>

#include <iterator>

#include "bench/support/bench.h"

namespace {

using namespace slabscope::bench;

constexpr std::size_t kSizes[] = {8,    16,   24,    40,    48,    72,    100,    136,
                                  200,  300,  500,   700,   1100,  1500,  2100,   3000,
                                  5000, 8200, 10000, 20000, 40000, 70000, 140000, 300000};

// Thousandths of the requested bytes that became resident.
std::uint64_t fill(std::size_t size, std::uint64_t bytes) {
  const std::uint64_t before = resident_kib();
  std::uint64_t asked = 0;
  do {
    asked += size;
    void* block = std::malloc(size);
    if (block == nullptr)
      die("malloc returned null");
    std::memset(block, 1, size);
    keep(block);  // never freed: this process ends here
  } while (asked < bytes);
  const std::uint64_t after = resident_kib();
  return after > before ? (after - before) * 1024 * 1000 / asked : 0;
}

// fill() in a child, so that every size finds an allocator that has handed out nothing yet.
std::uint64_t fill_in_child(std::size_t size, std::uint64_t bytes) {
  int ends[2];
  if (pipe(ends) != 0)
    die("pipe failed");
  const pid_t child = fork();
  if (child == 0) {
    const std::uint64_t result = fill(size, bytes);
    _exit(write(ends[1], &result, sizeof result) == sizeof result ? 0 : 1);
  }
  std::uint64_t result = 0;
  int status = 0;
  const bool read_all = child > 0 && read(ends[0], &result, sizeof result) == sizeof result;
  if (!read_all || waitpid(child, &status, 0) != child || status != 0)
    die("the child that fills memory failed");
  close(ends[0]);
  close(ends[1]);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments(argc, argv, "footprint: resident bytes for each requested byte, by size");
  const std::uint64_t mib = arguments.number("mib", 16, 2, "MiB of each size");
  arguments.check();

  Run run("footprint");
  std::uint64_t sum = 0;
  std::uint64_t worst = 0;
  std::uint64_t worst_size = 0;
  for (const std::size_t size : kSizes) {
    const std::uint64_t permille = fill_in_child(size, mib << 20);
    sum += permille;
    if (permille > worst) {
      worst = permille;
      worst_size = size;
    }
  }
  return run.finish(std::size(kSizes), std::size(kSizes),
                    {{"resident_permille_mean", sum / std::size(kSizes)},
                     {"resident_permille_worst", worst},
                     {"worst_size", worst_size}});
}
