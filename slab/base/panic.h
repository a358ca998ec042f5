// SPDX-License-Identifier: MIT
//
// panic: the one way the shim stops a program, and the checks that call it.
//
// A panic means that the program broke a rule of malloc (it freed a block twice, or a pointer that
// no allocation returned) or that we did.  It writes one line to descriptor 2 with a raw system
// call, takes no lock, allocates nothing, and aborts: continuing would hand one block to two
// owners.

#pragma once

#include <cstddef>
#include <cstdint>

#include "slab/base/compiler.h"

namespace slabscope {

// "slabscope: WHAT 0xADDRESS (DETAIL)\n", then abort(). `detail` may be null.
[[noreturn]] SC_COLD void panic(const char* what, const void* address,
                                const char* detail = nullptr);

// "slabscope: internal error: CONDITION (FILE:LINE)\n", then abort().
[[noreturn]] SC_COLD void check_failed(const char* condition, const char* file, int line);

// A fixed-size line, built without libc's formatter. Silently cut at its end.
class Line {
 public:
  Line& text(const char* string);
  Line& text(const char* string, size_t limit);
  // With spaces before it up to `width` characters, as "%*lu".
  Line& decimal(uint64_t value, unsigned width = 1);
  Line& hex(uint64_t value);
  const char* data() const { return buffer_; }
  // With a NUL at its end.
  const char* c_str() {
    buffer_[used_ < kBytes ? used_ : kBytes - 1] = '\0';
    return buffer_;
  }
  size_t size() const { return used_; }

 private:
  static constexpr size_t kBytes = 480;  // one line with a path; small enough for 16 KiB stacks
  char buffer_[kBytes];
  size_t used_ = 0;
};

}  // namespace slabscope

#define SC_CHECK(condition)                                           \
  do {                                                                \
    if (SC_UNLIKELY(!(condition))) {                                  \
      ::slabscope::check_failed(#condition, __FILE_NAME__, __LINE__); \
    }                                                                 \
  } while (false)

// NDEBUG is CMake's word for "what ships".
#ifdef NDEBUG
#  define SC_DCHECK(condition) static_cast<void>(0)
#else
#  define SC_DCHECK(condition) SC_CHECK(condition)
#endif
