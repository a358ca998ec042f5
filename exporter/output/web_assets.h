// SPDX-License-Identifier: MIT
//
// web_assets: the files of exporter/web that pages are made of, embedded by the build
// (cmake/embed.cmake makes the definitions).

#pragma once

#include <string_view>

namespace slabscope {

std::string_view heap_page_html();    // with {{NAME}} where something is to be filled in
std::string_view heap_page_script();  // d3-flame-graph and ours, minified

}  // namespace slabscope
