// SPDX-License-Identifier: MIT

#include "exporter/analysis/demangle.h"

#include <cxxabi.h>

#include <cctype>
#include <cstdlib>
#include <memory>

namespace slabscope {
namespace {

constexpr size_t kMaxMangledName = 8192;
constexpr size_t kMaxSequenceDigits = 6;       // of "S1Z_": more components than a name can have
constexpr double kMaxDemangledCost = 1 << 26;  // characters the demangler may have to write

struct FreeDeleter {
  void operator()(char* text) const { std::free(text); }
};

std::string cut(std::string text) {
  if (text.size() > kMaxFunctionName) {
    text.resize(kMaxFunctionName - 3);
    text += "...";
  }
  return text;
}

}  // namespace

bool demangling_is_cheap(std::string_view name) {
  if (name.size() > kMaxMangledName) {
    return false;
  }
  // r references to earlier parts write most if each level uses the one below three times: 3^(r/3).
  double cost = static_cast<double>(name.size());
  const double step = 1.4422495703074083;  // 3^(1/3)
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] != 'S' && name[i] != 'T') {
      continue;
    }
    size_t end = i + 1;
    while (end < name.size() && end - i <= kMaxSequenceDigits &&
           (std::isdigit(static_cast<unsigned char>(name[end])) != 0 ||
            (name[end] >= 'A' && name[end] <= 'Z'))) {
      ++end;
    }
    if (end < name.size() && name[end] == '_') {
      cost *= step;
    }
    if (cost > kMaxDemangledCost) {
      return false;
    }
  }
  return true;
}

std::string demangle(std::string_view name) {
  if (const size_t version = name.find('@'); version != std::string_view::npos && version > 0) {
    name = name.substr(0, version);
  }
  std::string mangled(name);
  if (!mangled.starts_with("_Z") || !demangling_is_cheap(mangled)) {
    return cut(std::move(mangled));
  }
  int status = 0;
  const std::unique_ptr<char, FreeDeleter> text(
      abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status));
  return cut(text != nullptr && status == 0 ? std::string(text.get()) : std::move(mangled));
}

}  // namespace slabscope
