# SPDX-License-Identifier: MIT
# Files that a program carries within itself, as functions that return their text:
#   slabscope_embed(TARGET HEADER FUNCTION FILE [FUNCTION FILE]...)
# HEADER declares  std::string_view FUNCTION();  in namespace slabscope. The text becomes a source in the
# build directory, made anew when the file changes. Run as a script, this file makes that source.
if(CMAKE_SCRIPT_MODE_FILE)
  file(READ ${INPUT} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(................................................................................)"
    "\\1\n" bytes "${bytes}")
  file(WRITE ${OUTPUT} "#include \"${HEADER}\"\n\nnamespace slabscope {\n\n"
    "std::string_view ${FUNCTION}() {\n  static constexpr unsigned char kBytes[] = {\n${bytes}0};\n  return {reinterpret_cast<const char*>(kBytes), sizeof(kBytes) - 1};\n}\n\n"
    "}  // namespace slabscope\n")
  return()
endif()

set(slabscope_embed_script ${CMAKE_CURRENT_LIST_FILE})
function(slabscope_embed target header)
  while(ARGN)
    list(POP_FRONT ARGN name file)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/embedded/${name}.cc)
    add_custom_command(OUTPUT ${source}
      COMMAND ${CMAKE_COMMAND} -DINPUT=${PROJECT_SOURCE_DIR}/${file} -DOUTPUT=${source}
        -DHEADER=${header} -DFUNCTION=${name} -P ${slabscope_embed_script}
      DEPENDS ${PROJECT_SOURCE_DIR}/${file} ${slabscope_embed_script}
      COMMENT "Embedding ${file}" VERBATIM)
    target_sources(${target} PRIVATE ${source})
  endwhile()
endfunction()
