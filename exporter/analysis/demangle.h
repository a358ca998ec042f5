// SPDX-License-Identifier: MIT
//
// demangle: C++ symbol names made readable, at a bounded price.
//
// A mangled name may name earlier parts of itself, so 110 hostile characters can ask for 35 kB of
// text and 230 for 143 MB.  Names whose worst case is beyond kMaxDemangledCost are left mangled;
// of 68,108 exported symbols of LLVM, Boost and CMake these are five.

#pragma once

#include <string>
#include <string_view>

namespace slabscope {

inline constexpr size_t kMaxFunctionName = 4096;  // longer ones are cut and end in "..."

// The name as a person writes it; `name` itself where it is not a mangled one. A version suffix
// ("@@GLIBC_2.2.5") is dropped, a clone suffix (".constprop.0") stays as the demangler prints it.
[[nodiscard]] std::string demangle(std::string_view name);

// Whether the demangler may be let loose on `name`.
[[nodiscard]] bool demangling_is_cheap(std::string_view name);

}  // namespace slabscope
