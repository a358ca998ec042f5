# SPDX-License-Identifier: MIT
# slab/, diag/ and preload/ use no exceptions, no RTTI and no C++ runtime: a slip is a link error.

function(slabscope_freestanding target)
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE slabscope_warnings)
  target_compile_definitions(${target} PRIVATE SLABSCOPE_VERSION="${PROJECT_VERSION}")
  target_compile_options(${target} PRIVATE -fno-exceptions -fno-rtti -fno-threadsafe-statics
    -ftls-model=initial-exec -fvisibility=hidden -fno-builtin-malloc -fno-plt
    $<$<NOT:$<CONFIG:Debug>>:-fno-stack-protector>)
endfunction()

# The preloaded object: libc alone, the listed exports alone, everything bound at start; code that is
# rarely run apart, if the linker can add to its own script (GNU ld and lld can, gold cannot).
set(SLABSCOPE_SECTIONS ${PROJECT_SOURCE_DIR}/preload/sections.ld)
include(CheckLinkerFlag)
check_linker_flag(CXX "-Wl,-T,${SLABSCOPE_SECTIONS}" SLABSCOPE_LINKER_INSERTS)

# What runs at each malloc, or at each stack with SLABSCOPE_TRACK=all, is built for speed; the rest of
# the object for size, since a process that allocates a little has most of it in memory.
set(SLABSCOPE_HOT_CODE
  diag/backtrace.cc diag/cfi_cache.cc diag/cfi_object.cc diag/memory_probe.cc diag/object_table.cc
  diag/quick_walk.cc diag/stack_depot.cc preload/malloc.cc preload/new.cc preload/watch.cc
  slab/heap.cc slab/cache/kmem_cache.cc slab/cache/record_table.cc slab/cache/slab.cc
  slab/cache/thread_cache.cc slab/cache/thread_cache_flush.cc slab/cache/thread_sampling.cc)
set(SLABSCOPE_HOT_OPTIONS -O2 -falign-functions=4 -falign-jumps=1 -falign-loops=1 -falign-labels=1)
# The same, of what lies with the rare code: programs that use it use it a lot.
set(SLABSCOPE_HOT_RARE_CODE diag/cfi_walk.cc diag/known_stacks.cc slab/cache/group_paths.cc
  slab/cache/object_cache_paths.cc)

function(slabscope_preload_link target map)
  target_compile_options(${target} PRIVATE -ffunction-sections -fdata-sections
    $<$<NOT:$<CONFIG:Debug>>:-Os>)
  set_source_files_properties(${SLABSCOPE_HOT_CODE} PROPERTIES COMPILE_OPTIONS
    "$<$<NOT:$<CONFIG:Debug>>:${SLABSCOPE_HOT_OPTIONS}>")
  set_source_files_properties(${SLABSCOPE_HOT_RARE_CODE} PROPERTIES COMPILE_OPTIONS
    $<$<NOT:$<CONFIG:Debug>>:-O2>)
  target_link_options(${target} PRIVATE -nodefaultlibs -Wl,-z,defs -Wl,-z,now -Wl,-z,relro
    -Wl,--gc-sections -Wl,-O1 -Wl,--hash-style=gnu -Wl,--version-script=${map})
  if(SLABSCOPE_LINKER_INSERTS)
    target_link_options(${target} PRIVATE -Wl,-T,${SLABSCOPE_SECTIONS})
  endif()
  target_link_libraries(${target} PRIVATE c gcc)
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${map} ${SLABSCOPE_SECTIONS})
endfunction()
