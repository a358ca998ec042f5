// SPDX-License-Identifier: MIT
//
// frame_text: the frames of a recorded stack as text, from inside the process.
//
//       /usr/bin/server+0x12ab        the module's file and the address in it, innermost first
//
// Raw writes or a line, no allocation, no lock: module records are read as they are.
// Called from: the reports.

#pragma once

#include "diag/scope_file.h"
#include "diag/stack_depot.h"
#include "slab/base/panic.h"

namespace slabscope::diag {

void write_line(int fd, const Line& line);
// One line a frame; without the library's own in front, unless there are no others.
void write_frames(int fd, ScopeFile& file, abi::StackRecord* record);
// The innermost frame that is not the library's own, or the innermost one; 0: there is none.
uint64_t program_frame(ScopeFile& file, abi::StackRecord* record);
// "server+0x12ab": the module's file name and the address in it.
void add_place(Line& line, ScopeFile& file, uint64_t pc, uint32_t generation);

}  // namespace slabscope::diag
