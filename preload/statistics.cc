// SPDX-License-Identifier: MIT
//
// libc's questions about the heap: mallinfo, malloc_stats, malloc_info, malloc_trim, mallopt.

#include <errno.h>
#include <malloc.h>
#include <stdio.h>

#include <climits>
#include <cstddef>

#include "slab/heap.h"
#include "slab/inspect.h"

namespace slabscope {
namespace {

struct mallinfo2 info() {
  const HeapTotals totals = heap_totals();
  struct mallinfo2 result = {};
  result.arena = totals.slab_bytes + totals.free_bytes;
  result.hblks = totals.large_blocks;
  result.hblkhd = totals.large_bytes;
  result.uordblks = totals.active_bytes;
  result.fordblks = result.arena + result.hblkhd - result.uordblks;
  result.keepcost = totals.free_bytes;
  return result;
}

// mallinfo's fields are ints: what does not fit is the largest that does.
int as_int(size_t value) {
  return value > INT_MAX ? INT_MAX : static_cast<int>(value);
}

}  // namespace
}  // namespace slabscope

extern "C" {

SC_EXPORT struct mallinfo2 mallinfo2() {
  return slabscope::info();
}

SC_EXPORT struct mallinfo mallinfo() {
  const struct mallinfo2 wide = slabscope::info();
  struct mallinfo result = {};
  result.arena = slabscope::as_int(wide.arena);
  result.hblks = slabscope::as_int(wide.hblks);
  result.hblkhd = slabscope::as_int(wide.hblkhd);
  result.uordblks = slabscope::as_int(wide.uordblks);
  result.fordblks = slabscope::as_int(wide.fordblks);
  result.keepcost = slabscope::as_int(wide.keepcost);
  return result;
}

SC_EXPORT void malloc_stats() {
  const slabscope::HeapTotals totals = slabscope::heap_totals();
  fprintf(stderr, "slabscope: %zu bytes in use, %zu in slabs, %zu in %zu large blocks, %zu free\n",
          totals.active_bytes, totals.slab_bytes, totals.large_bytes, totals.large_blocks,
          totals.free_bytes);
  slabscope::for_each_cache(
      [](const slabscope::CacheView& cache, void*) {
        fprintf(stderr, "%-16u %12zu objects in use, %12zu allocated, %8zu slabs\n",
                cache.object_size, static_cast<size_t>(cache.active_objects),
                static_cast<size_t>(cache.allocations), static_cast<size_t>(cache.slabs));
      },
      nullptr);
}

SC_EXPORT int malloc_info(int options, FILE* stream) {
  if (options != 0) {
    errno = EINVAL;
    return -1;
  }
  const slabscope::HeapTotals totals = slabscope::heap_totals();
  fprintf(stream, "<malloc version=\"slabscope-1\">\n<sizes>\n");
  slabscope::for_each_cache(
      [](const slabscope::CacheView& cache, void* context) {
        fprintf(static_cast<FILE*>(context),
                "<cache size=\"%u\" active=\"%zu\" allocated=\"%zu\" slabs=\"%zu\"/>\n",
                cache.object_size, static_cast<size_t>(cache.active_objects),
                static_cast<size_t>(cache.allocations), static_cast<size_t>(cache.slabs));
      },
      stream);
  fprintf(stream,
          "</sizes>\n<total type=\"active\" size=\"%zu\"/>\n<total type=\"large\" count=\"%zu\" "
          "size=\"%zu\"/>\n<total type=\"free\" size=\"%zu\"/>\n</malloc>\n",
          totals.active_bytes, totals.large_blocks, totals.large_bytes, totals.free_bytes);
  return ferror(stream) != 0 ? -1 : 0;
}

// 1 if the kernel got memory back. `pad` is glibc's: there is no top of the heap to keep.
SC_EXPORT int malloc_trim(size_t) {
  return slabscope::trim() > 0 ? 1 : 0;
}

// glibc's parameters mean nothing here; programs that set them want success.
SC_EXPORT int mallopt(int, int) {
  return 1;
}

}  // extern "C"
