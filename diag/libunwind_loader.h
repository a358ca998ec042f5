// SPDX-License-Identifier: MIT
//
// libunwind_loader: libunwind, loaded for ourselves alone and kept from touching what is not ours.
//
//   dlopen(RTLD_LOCAL) ─► unw_backtrace ─► its own PLT slots:
//        pipe2, read, write, close, syscall   address validation through a pipe ─► is_readable()
//        dl_iterate_phdr                      search under the loader's lock ─► _dl_find_object()
//        open                                 debug files of table-less modules ─► ENOENT
//
// libunwind 1.6 validates an address by writing a byte from it into a pipe that it keeps open.  A
// daemon that closes all descriptors and gets the same numbers for a socket finds those bytes in
// its stream.  And its module search can deadlock: a program whose dl_iterate_phdr callback takes a
// lock meets a thread that allocates under that lock.  A libunwind without these slots (1.8
// validates otherwise) or with read-only ones is left as it is.
// Locks: the loader's, in load_libunwind() only. Called from: backtrace_init(), in a constructor.

#pragma once

namespace slabscope::diag {

using UnwBacktrace = int (*)(void** buffer, int size);

// unw_backtrace, ready to use; null if there is no libunwind.
[[nodiscard]] UnwBacktrace load_libunwind();

}  // namespace slabscope::diag
