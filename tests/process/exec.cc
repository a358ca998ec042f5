// SPDX-License-Identifier: MIT
//
// exec, many times in one process, from threads, and with an empty or a huge environment. The
// preload goes on into the next program because nobody touched the environment.
#include <stdio.h>
#include <sys/resource.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/support/child.h"

using slabscope::test::again;
using slabscope::test::exited;

extern "C" char** environ;

namespace {

void use_heap() {
  std::vector<std::string> words;
  for (size_t i = 0; i < 2000; ++i) {
    words.emplace_back(i % 500, 'e');
  }
}

[[noreturn]] void exec_self(const std::string& mode, char** environment) {
  std::string program = "exec";
  std::string argument = mode;
  char* arguments[] = {program.data(), argument.data(), nullptr};
  execve("/proc/self/exe", arguments, environment);
  _exit(127);
}

// "chain:N" becomes "chain:N-1" by exec in the same process until it is 0.
int chain(const std::string& mode) {
  const int left = std::stoi(mode.substr(mode.find(':') + 1));
  use_heap();
  if (left == 0) {
    return 0;
  }
  const std::string next = "chain:" + std::to_string(left - 1);
  if (left % 2 == 0) {
    std::thread([&next] { exec_self(next, environ); }).join();
  }
  exec_self(next, environ);
}

int environment_unchanged() {
  // Whatever was there is there, in the same order: env(1) would show no difference.
  const char* expected = getenv("EXPECTED_ENVIRONMENT");
  SC_EXPECT(expected != nullptr);
  std::string seen;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (text.rfind("EXPECTED_ENVIRONMENT=", 0) != 0) {
      seen += text + "\n";
    }
  }
  SC_EXPECT(seen == expected);
  return 0;
}

void exec_with(const char* mode, std::vector<std::string> entries) {
  std::vector<char*> environment;
  for (auto& entry : entries) {
    environment.push_back(entry.data());
  }
  environment.push_back(nullptr);
  exec_self(mode, environment.data());
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode.rfind("chain:", 0) == 0) {
    return chain(mode);
  }
  if (mode == "use") {
    use_heap();
    return 0;
  }
  if (mode == "environment") {
    return environment_unchanged();
  }
  slabscope::test::expect_preload();
  SC_EXPECT(exited(again("chain:60")));
  const char* preload = getenv("LD_PRELOAD");
  const std::string keep = preload != nullptr ? "LD_PRELOAD=" + std::string(preload) : "NONE=1";
  SC_EXPECT(exited(slabscope::test::in_child([] { exec_with("use", {}); })));
  SC_EXPECT(exited(slabscope::test::in_child([&keep] { exec_with("use", {keep}); })));
  SC_EXPECT(exited(slabscope::test::in_child([&keep] {
    std::vector<std::string> huge;
    for (int i = 0; i < 10; ++i) {
      huge.push_back("HUGE" + std::to_string(i) + "=" + std::string(100000, 'h'));
    }
    huge.push_back("NO_EQUALS_SIGN");
    huge.push_back("=");
    huge.push_back("");
    huge.push_back(keep);
    exec_with("use", huge);
  })));
  SC_EXPECT(exited(slabscope::test::in_child([&keep] {
    exec_with("environment",
              {"B=2", keep, "A=1", "B=3", "EXPECTED_ENVIRONMENT=B=2\n" + keep + "\nA=1\nB=3\n"});
  })));
  return 0;
}
