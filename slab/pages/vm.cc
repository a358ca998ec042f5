// SPDX-License-Identifier: MIT

#include "slab/pages/vm.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "slab/base/sys.h"

namespace slabscope::vm {
namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;
constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS;

long map_raw(void* address, size_t bytes, int protection, int flags) {
  return sys::raw(SYS_mmap, sys::arg(address), sys::arg(bytes), protection, flags, -1, 0);
}

}  // namespace

void* map(size_t bytes) {
  const long result = map_raw(nullptr, bytes, kReadWrite, kPrivate);
  return sys::failed(result) ? nullptr : reinterpret_cast<void*>(result);
}

bool map_at(void* address, size_t bytes) {
  // A kernel before 4.17 takes the flag for a hint and may answer with another place.
  const long result = map_raw(address, bytes, kReadWrite, kPrivate | MAP_FIXED_NOREPLACE);
  if (sys::failed(result))
    return false;
  if (result == sys::arg(address))
    return true;
  unmap(reinterpret_cast<void*>(result), bytes);
  return false;
}

void* reserve_readable(size_t bytes) {
  const long result = map_raw(nullptr, bytes, PROT_READ, kPrivate | MAP_NORESERVE);
  return sys::failed(result) ? nullptr : reinterpret_cast<void*>(result);
}

bool make_writable(void* address, size_t bytes) {
  return !sys::failed(sys::raw(SYS_mprotect, sys::arg(address), sys::arg(bytes), kReadWrite));
}

void unmap(void* address, size_t bytes) {
  sys::raw(SYS_munmap, sys::arg(address), sys::arg(bytes));
}

bool purge(void* address, size_t bytes) {
  return !sys::failed(sys::raw(SYS_madvise, sys::arg(address), sys::arg(bytes), MADV_DONTNEED));
}

void* remap(void* address, size_t old_bytes, size_t new_bytes) {
  const long result = sys::raw(SYS_mremap, sys::arg(address), sys::arg(old_bytes),
                               sys::arg(new_bytes), MREMAP_MAYMOVE);
  return sys::failed(result) ? nullptr : reinterpret_cast<void*>(result);
}

bool move_pages(void* from, void* to, size_t bytes) {
  constexpr int kDontUnmap = 4;  // MREMAP_DONTUNMAP, which glibc 2.31 and older do not name
  const long result = sys::raw(SYS_mremap, sys::arg(from), sys::arg(bytes), sys::arg(bytes),
                               MREMAP_MAYMOVE | MREMAP_FIXED | kDontUnmap, sys::arg(to));
  return !sys::failed(result);
}

bool map_over(void* address, size_t bytes) {
  return !sys::failed(map_raw(address, bytes, kReadWrite, kPrivate | MAP_FIXED));
}

void exclude_from_dumps(void* address, size_t bytes) {
  sys::raw(SYS_madvise, sys::arg(address), sys::arg(bytes), MADV_DONTDUMP);
}

size_t address_space_limit() {
  rlimit limit{};
  const long result = sys::raw(SYS_prlimit64, 0, RLIMIT_AS, 0, sys::arg(&limit));
  if (sys::failed(result) || limit.rlim_cur == RLIM_INFINITY)
    return SIZE_MAX;
  return limit.rlim_cur;
}

}  // namespace slabscope::vm
