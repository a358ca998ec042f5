// SPDX-License-Identifier: MIT
//
// function_name: demangled names cut to what a person reads.
//
//   std::vector<a::Node, std::allocator<a::Node> >::_M_realloc_insert<a::Node const&>(…iterator…)
//   └─ std::vector<a::Node>::_M_realloc_insert<>(...)
//
// Only for text; JSON keeps the whole name.

#pragma once

#include <string>
#include <string_view>

namespace slabscope {

// Without return type, default template arguments and the long form of std::string; and at most
// `limit` characters, by leaving out parameters, then template arguments, then the middle.
[[nodiscard]] std::string short_function_name(std::string_view name, size_t limit);

}  // namespace slabscope
