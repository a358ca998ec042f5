// SPDX-License-Identifier: MIT
//
// memory_probe: questions about memory that the kernel answers without a signal.
//
//   make_present   is a page of the file behind this address? make one   MADV_POPULATE_WRITE, futex
//   is_readable    may I read eight bytes here?                          futex
//
// A store to a hole of a full tmpfs is SIGBUS, a load from an unmapped page SIGSEGV. Both questions
// use system calls that every sandbox seen allows, need no descriptor and change nothing.
// Locks: none. Called from: scope_file.cc, backtrace.cc, module_table.cc.

#pragma once

#include <cstddef>
#include <cstdint>

namespace slabscope::diag {

// Makes the pages [p, p + bytes) of a shared mapping present; p and bytes are page-aligned. False:
// the file system is full or memory is short.
[[nodiscard]] bool make_present(void* p, size_t bytes);

// The same by one futex operation a page, for kernels before 5.14. Contents are unchanged.
[[nodiscard]] bool make_present_by_futex(void* p, size_t bytes);

// Whether eight bytes at `address` can be read.
[[nodiscard]] bool is_readable(uintptr_t address);

}  // namespace slabscope::diag
