# SPDX-License-Identifier: MIT
# Several sources compiled as one: the libraries that the program is made of are headers for the most
# part, and are then read and instantiated once for all of them. Not for the allocator, whose code
# is to be the same whoever compiles it.
option(SLABSCOPE_UNITY "Compile several sources of the program or its tests as one" ON)

function(slabscope_unity target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${SLABSCOPE_UNITY} UNITY_BUILD_BATCH_SIZE 8)
endfunction()
