// SPDX-License-Identifier: MIT

#include "diag/memory_probe.h"

#include <linux/futex.h>
#include <sys/mman.h>

#include <cerrno>

#include "diag/abi/layout.h"
#include "slab/base/sys.h"

namespace slabscope::diag {
namespace {

constexpr long kMadvPopulateWrite = 23;  // MADV_POPULATE_WRITE, Linux 5.14

}  // namespace

bool make_present(void* p, size_t bytes) {
  for (;;) {
    const long result = sys::raw(SYS_madvise, sys::arg(p), sys::arg(bytes), kMadvPopulateWrite);
    if (result == 0)
      return true;
    if (result == -EAGAIN || result == -EINTR)
      continue;
    // EFAULT is what a store would have found as SIGBUS.
    if (result == -EFAULT || result == -ENOMEM || result == -EHWPOISON)
      return false;
    return make_present_by_futex(p, bytes);
  }
}

bool make_present_by_futex(void* p, size_t bytes) {
  // FUTEX_WAKE_OP performs `word += 0` atomically with the kernel's fault handling around it.
  static constinit uint32_t nobody_waits = 0;
  constexpr long kAddZero = FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0);
  auto* page = static_cast<unsigned char*>(p);
  for (size_t done = 0; done < bytes; done += abi::kPageBytes) {
    const long result = sys::raw(SYS_futex, sys::arg(&nobody_waits), FUTEX_WAKE_OP_PRIVATE, 0, 0,
                                 sys::arg(page + done), kAddZero);
    if (result < 0)
      return false;
  }
  return true;
}

namespace {

// FUTEX_CMP_REQUEUE compares the word before it moves nobody from itself to itself.
bool is_word_readable(uintptr_t address) {
  const auto word = static_cast<long>(address);
  return sys::raw(SYS_futex, word, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, word, 0) != -EFAULT;
}

bool is_all_readable(uintptr_t low, uintptr_t high) {
  while (low < high && is_word_readable(low))
    low += abi::kPageBytes;
  return low >= high;
}

}  // namespace

bool is_readable(uintptr_t address) {
  constexpr uintptr_t kWordMask = ~uintptr_t{3};
  return is_word_readable(address & kWordMask) && is_word_readable((address + 7) & kWordMask);
}

bool StackWindow::extend(uintptr_t address) {
  const uintptr_t page = address & ~kPageMask;
  if (page == 0 || page >= kAddressEnd || !is_readable(page))
    return false;
  if (page >= high_ && page - high_ <= kMostGap && is_all_readable(high_, page)) {
    high_ = page + abi::kPageBytes;
  } else if (page + abi::kPageBytes == low_) {
    low_ = page;
  } else {
    low_ = page;
    high_ = page + abi::kPageBytes;
  }
  return true;
}

}  // namespace slabscope::diag
