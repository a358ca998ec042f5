// SPDX-License-Identifier: MIT

#include "exporter/analysis/debuginfod.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <type_traits>
#include <utility>

namespace slabscope {

// As <elfutils/debuginfod.h> declares them; the soname stands for that.
struct Debuginfod::Functions {
  void* (*begin)() = nullptr;
  int (*find)(void* client, const unsigned char* id, int bytes, char** path) = nullptr;
  void (*end)(void* client) = nullptr;
  void* client = nullptr;
};

std::unique_ptr<Debuginfod> Debuginfod::load() {
  void* library = dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return nullptr;
  }
  auto functions = std::make_unique<Functions>();
  const auto bind = [&](const char* name, auto& function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    return function != nullptr;
  };
  if (!bind("debuginfod_begin", functions->begin) ||
      !bind("debuginfod_find_debuginfo", functions->find) ||
      !bind("debuginfod_end", functions->end)) {
    return nullptr;
  }
  functions->client = functions->begin();
  if (functions->client == nullptr) {
    return nullptr;
  }
  std::unique_ptr<Debuginfod> result(new Debuginfod);
  result->functions_ = std::move(functions);
  return result;
}

bool Debuginfod::has_servers() {
  const char* urls = getenv("DEBUGINFOD_URLS");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return urls != nullptr && *urls != '\0';
}

Debuginfod::~Debuginfod() {
  if (functions_ != nullptr) {
    functions_->end(functions_->client);
  }
}

std::string Debuginfod::find(const std::vector<uint8_t>& build_id) const {
  char* path = nullptr;
  const int file = functions_->find(functions_->client, build_id.data(),
                                    static_cast<int>(build_id.size()), &path);
  if (file < 0) {
    return "";
  }
  close(file);
  std::string result = path == nullptr ? "" : path;
  std::free(path);  // NOLINT(cppcoreguidelines-no-malloc): the library's
  return result;
}

}  // namespace slabscope
