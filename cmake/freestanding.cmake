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
set(SLABSCOPE_RARE_CODE ${PROJECT_SOURCE_DIR}/preload/rare_code.ld)
include(CheckLinkerFlag)
check_linker_flag(CXX "-Wl,-T,${SLABSCOPE_RARE_CODE}" SLABSCOPE_LINKER_INSERTS)

function(slabscope_preload_link target map)
  target_compile_options(${target} PRIVATE -ffunction-sections -fdata-sections)
  target_link_options(${target} PRIVATE -nodefaultlibs -Wl,-z,defs -Wl,-z,now -Wl,-z,relro
    -Wl,--gc-sections -Wl,-O1 -Wl,--hash-style=gnu -Wl,--version-script=${map})
  if(SLABSCOPE_LINKER_INSERTS)
    target_link_options(${target} PRIVATE -Wl,-T,${SLABSCOPE_RARE_CODE})
  endif()
  target_link_libraries(${target} PRIVATE c gcc)
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${map} ${SLABSCOPE_RARE_CODE})
endfunction()
