// SPDX-License-Identifier: MIT
//
// Allocation before and after everything: with another library preloaded before ours and after
// ours, constructors that run ahead of ours, atexit handlers and destructors that run behind it.
#include <string>
#include <vector>

#include "tests/support/child.h"

namespace {

struct Early {
  std::vector<std::string> words{100, std::string(100, 'e')};
  ~Early() { SC_EXPECT(words.size() == 100 && words[99].size() == 100); }
};
Early g_early;

__attribute__((constructor(101))) void first() {
  free(malloc(100));
}
__attribute__((destructor(101))) void last() {
  free(malloc(100000));
}

void at_exit() {
  g_early.words[0].assign(100, 'x');
}

void with_preloads(const std::string& preloads) {
  SC_EXPECT(slabscope::test::exited(
      slabscope::test::again("child", [&] { setenv("LD_PRELOAD", preloads.c_str(), 1); })));
}

}  // namespace

int main(int argc, char** argv) {
  SC_EXPECT(atexit(at_exit) == 0);
  if (argc == 2 && strcmp(argv[1], "child") == 0) {
    slabscope::test::expect_preload();
    SC_EXPECT(dlsym(RTLD_DEFAULT, "early_library_calls") != nullptr);
    std::vector<std::string> words(5000, std::string(40, 'w'));
    return words.size() == 5000 ? 0 : 1;
  }
  SC_EXPECT(argc == 2);
  slabscope::test::expect_preload();
  const char* preload = getenv("LD_PRELOAD");
  const std::string ours = preload != nullptr ? preload : "";
  with_preloads(std::string(argv[1]) + ":" + ours);
  with_preloads(ours + ":" + argv[1]);
  return 0;
}
