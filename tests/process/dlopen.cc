// SPDX-License-Identifier: MIT
//
// Libraries that come and go while other threads allocate and unwind: the loader allocates under
// its own lock, so an allocator that takes the loader's lock under one of its own would stop here.
#include <dlfcn.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/check.h"

namespace {

using Work = size_t (*)(size_t);

bool loaded(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  if (library != nullptr) {
    dlclose(library);
  }
  return library != nullptr;
}

void load_and_unload(const char* path, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    void* library = dlopen(path, i % 2 == 0 ? RTLD_NOW | RTLD_LOCAL : RTLD_LAZY | RTLD_GLOBAL);
    SC_EXPECT(library != nullptr);
    auto work = reinterpret_cast<Work>(dlsym(library, "plugin_work"));
    SC_EXPECT(work != nullptr && work(100) > 0);
    SC_EXPECT(dlclose(library) == 0);
    SC_EXPECT(dlopen("/nonexistent/library.so", RTLD_NOW) == nullptr);
    SC_EXPECT(dlerror() != nullptr);
  }
}

}  // namespace

int main(int argc, char** argv) {
  slabscope::test::expect_preload();
  SC_EXPECT(argc == 2);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 2; ++t) {
    threads.emplace_back([&stop, t] {
      for (size_t i = t; !stop.load(std::memory_order_relaxed); ++i) {
        std::string text(i * 97 % 3000, 'x');
        try {
          if (i % 100 == 0) {
            throw std::vector<char>(1 + i % 900);
          }
        } catch (const std::vector<char>& thrown) {
          SC_EXPECT(thrown.size() == 1 + i % 900);
        }
      }
    });
  }
  load_and_unload(argv[1], 300);
  SC_EXPECT(!loaded(argv[1]));
  std::thread second([argv] { load_and_unload(argv[1], 300); });
  load_and_unload(argv[1], 300);
  second.join();
  stop.store(true);
  for (auto& thread : threads) {
    thread.join();
  }
  return 0;
}
