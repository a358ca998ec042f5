# SPDX-License-Identifier: MIT
# The warnings every target of ours is built with; the presets make them errors.
add_library(slabscope_warnings INTERFACE)
target_compile_options(slabscope_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
  -Wundef $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
