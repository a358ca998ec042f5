// SPDX-License-Identifier: MIT
//
// Foreign blocks: what other allocators returned and the program hands to us.
//
// Libraries that were loaded with RTLD_DEEPBIND, and code that calls __libc_malloc, use libc's heap
// and may free its blocks through us. A pointer that the page map does not know goes to libc's own
// free, if it looks like one of libc's blocks; else it is the program's mistake.

#pragma once

#include <cstddef>

namespace slabscope {

// False if `block` cannot be a block of libc's heap. Otherwise libc has freed it. Keeps errno.
bool foreign_free(void* block);

// Usable bytes of a block of libc's heap, 0 if it cannot be one.
size_t foreign_size(void* block);

}  // namespace slabscope
