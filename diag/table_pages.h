// SPDX-License-Identifier: MIT
//
// table_pages: what reading unwind tables made resident goes back.
//
//   find_rules ─► tables_were_read ── until the object's share is reached: 64 KiB a read ─►
//
//   ld    .rodata │ .eh_frame_hdr ..... │ .eh_frame ............. │  end of the segment
//                   first page │◄────────── MADV_DONTNEED ───────►│
//   gold  .rodata │ .eh_frame ...... │ .eh_frame_hdr ............ │
//                   │◄── and ───────►│ first page │◄── and ──────►│
//
// The kernel maps 16 pages of a file around each one that is touched, and looking up a function
// touches three or four places: 200 KiB in a program of 3 MiB, 10 MiB in a large compiler. They are
// the page cache's: nothing is lost but the time of touching them again.
//
// Invariants
//   1. The calling thread has a frame in the object: nobody can have unloaded it and mapped
//      something else there.
//   2. Only pages of a file go; of memory that is none they would read as zeroes.
//                                                                            (anonymous test)
//   3. Only pages that hold what the file does: of a segment that is not writable, in an object
//      without text relocations.                                        (relocations test)
//   4. The page in which the index begins stays: each walk looks at it. So does all code: a
//      debugger may have put breakpoints there.
// Locks: none. Called from: cfi_object.h; preload/ sets the allowance.

#pragma once

#include <cstddef>
#include <cstdint>

#include "diag/cfi_bytes.h"

namespace slabscope::diag {

struct CfiObject;
struct CfiSegment;

// How many bytes of tables, roughly, may stay resident; 0 at first.
void allow_table_bytes(size_t bytes);

// Rules of a function in `object` were read from `segment`.
void tables_were_read(const CfiObject& object, const CfiSegment& segment);

// Whole pages with nothing but tables, or constants behind them.
struct TablePages {
  ByteRange before;  // the index's first page
  ByteRange after;
};

// Those that may be given back; none if it is not certain that they can be.
[[nodiscard]] TablePages returnable_pages(const CfiObject& object, const CfiSegment& segment);

// Whether these whole pages are mapped from files; true if there are none. Asked at both ends and
// at every huge page, which is what programs replace files' pages by.
[[nodiscard]] bool are_of_files(ByteRange pages);

}  // namespace slabscope::diag
