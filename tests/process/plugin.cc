// SPDX-License-Identifier: MIT
// A library that process.dlopen loads and unloads: it allocates when loaded, when called,
// and when unloaded. Built with -fno-gnu-unique, so that dlclose really unloads it.
#include <string>
#include <vector>

namespace {
std::vector<std::string>* g_words = nullptr;

__attribute__((constructor)) void load() {
  g_words = new std::vector<std::string>(50, std::string(100, 'p'));
}
__attribute__((destructor)) void unload() {
  delete g_words;
}
}  // namespace

extern "C" size_t plugin_work(size_t rounds);

extern "C" size_t plugin_work(size_t rounds) {
  std::vector<char> local;
  size_t total = 0;
  for (size_t i = 0; i < rounds; ++i) {
    local.resize(1 + i * 13 % 5000);
    g_words->at(i % g_words->size()).assign(i % 700, 'q');
    total += local.size();
  }
  return total;
}
