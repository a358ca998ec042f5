// SPDX-License-Identifier: MIT
//
// Programs that close, fill or limit what the allocator might want: every descriptor closed ahead
// of exec or later, numbers reused, RLIMIT_NOFILE=3, RLIMIT_FSIZE=0, RLIMIT_NPROC, a umask of 0777,
// a working directory that is gone, no environment at all.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <initializer_list>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child.h"

using slabscope::test::again;
using slabscope::test::exited;

namespace {

void use_heap() {
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([] {
      std::vector<std::string> words;
      for (size_t i = 0; i < 20000; ++i) {
        words.emplace_back(i * 31 % 3000, 'd');
      }
      free(malloc(size_t{64} << 20));
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
}

// The descriptors that are open, as the kernel tells; opendir's own is the highest and left out.
std::vector<int> open_descriptors() {
  std::vector<int> open;
  for (int number = 0; number < 256; ++number) {
    if (fcntl(number, F_GETFD) >= 0) {
      open.push_back(number);
    }
  }
  return open;
}

int use() {
  const std::vector<int> before = open_descriptors();
  use_heap();
  SC_EXPECT(open_descriptors() == before);
  return 0;
}

// A daemon closes everything and then opens its own files, which get the lowest numbers; whoever
// remembered a number from before would read, write or close the wrong file.
int close_and_reuse() {
  use_heap();
  closefrom(0);
  char text[64];
  for (int i = 0; i < 20; ++i) {
    char path[] = "/tmp/slabscope-descriptors-XXXXXX";
    const int file = mkstemp(path);
    SC_EXPECT(file == i);
    SC_EXPECT(unlink(path) == 0 && write(file, "mine", 4) == 4);
  }
  use_heap();
  SC_EXPECT(slabscope::test::exited(slabscope::test::in_child(use_heap)));
  use_heap();
  for (int i = 0; i < 20; ++i) {
    SC_EXPECT(pread(i, text, sizeof text, 0) == 4 && memcmp(text, "mine", 4) == 0);
    SC_EXPECT(lseek(i, 0, SEEK_CUR) == 4);
  }
  return 0;
}

// Started with none open: what opens later must get 0, and nothing of ours may hold a number.
int nothing_open() {
  SC_EXPECT(open_descriptors().empty());
  use_heap();
  SC_EXPECT(open_descriptors().empty());
  SC_EXPECT(open("/dev/null", O_RDWR) == 0);
  use_heap();
  return 0;
}

void limit(int resource, rlim_t value) {
  const rlimit both{value, value};
  SC_EXPECT(setrlimit(static_cast<__rlimit_resource>(resource), &both) == 0);
}

void vanish() {
  char path[] = "/tmp/slabscope-gone-XXXXXX";
  SC_EXPECT(mkdtemp(path) != nullptr && chdir(path) == 0 && rmdir(path) == 0);
}

int run_all() {
  SC_EXPECT(exited(again("use")));
  SC_EXPECT(exited(again("reuse")));
  SC_EXPECT(exited(again("nothing", [] { closefrom(0); })));
  SC_EXPECT(exited(again("use", [] { close(STDIN_FILENO); })));
  SC_EXPECT(exited(again("use", [] { limit(RLIMIT_FSIZE, 0); })));
  SC_EXPECT(exited(again("use", [] { limit(RLIMIT_CORE, 0); })));
  SC_EXPECT(exited(again("use", [] { limit(RLIMIT_MEMLOCK, 0); })));
  SC_EXPECT(exited(again("use", [] { umask(0777); })));
  SC_EXPECT(exited(again("use", vanish)));
  SC_EXPECT(exited(again("use", [] {
    for (const char* name : {"HOME", "PATH", "XDG_RUNTIME_DIR", "SLABSCOPE_DIR", "TMPDIR"}) {
      unsetenv(name);
    }
  })));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  slabscope::test::expect_preload();
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "use") {
    return use();
  }
  if (mode == "reuse") {
    return close_and_reuse();
  }
  if (mode == "nothing") {
    return nothing_open();
  }
  return run_all();
}
