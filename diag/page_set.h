// SPDX-License-Identifier: MIT
//
// PageSet: which pages of a part of the scope file are known to be there, one bit a page.
//
// Private memory, so a reader of the file cannot change it. Bits are only ever set, except while a
// fork child or an open() has the process to itself. Lock-free; two threads that find a bit clear
// both make the page present, which is harmless.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "diag/abi/layout.h"
#include "slab/base/compiler.h"

namespace slabscope::diag {

template <size_t kPages>
class PageSet {
 public:
  static constexpr size_t kWords = (kPages + 63) / 64;

  constexpr PageSet() = default;

  SC_INLINE bool has_page(size_t page) const {
    // Pairs with the release in add(): the page was present before its bit was.
    return (words_[page / 64].load(std::memory_order_acquire) >> (page % 64) & 1) != 0;
  }

  // Whether every page of [offset, offset + bytes) is present; bytes > 0.
  SC_INLINE bool has(size_t offset, size_t bytes) const {
    const size_t last = (offset + bytes - 1) / abi::kPageBytes;
    for (size_t page = offset / abi::kPageBytes; page <= last; ++page) {
      if (page >= kPages || !has_page(page))
        return false;
    }
    return true;
  }

  // Returns how many of these pages were new.
  size_t add(size_t first, size_t pages) {
    size_t added = 0;
    for (size_t page = first; page < first + pages; ++page) {
      const uint64_t bit = uint64_t{1} << (page % 64);
      if ((words_[page / 64].fetch_or(bit, std::memory_order_release) & bit) == 0)
        ++added;
    }
    return added;
  }

  void clear() {
    for (auto& word : words_) {
      if (word.load(std::memory_order_relaxed) != 0)
        word.store(0, std::memory_order_relaxed);
    }
  }

  // Forgets the pages from `first` on.
  void remove_from(size_t first) {
    for (size_t page = first; page < kPages; ++page) {
      auto& word = words_[page / 64];
      if (page % 64 != 0) {
        word.fetch_and(~(uint64_t{1} << (page % 64)), std::memory_order_relaxed);
      } else {
        if (word.load(std::memory_order_relaxed) != 0)
          word.store(0, std::memory_order_relaxed);
        page += 63;
      }
    }
  }

  // Calls visit(first, pages) for each run of present pages in [begin, end), in order.
  template <typename Visit>
  void for_each_run(size_t begin, size_t end, Visit&& visit) const {
    for (size_t page = begin; page < end;) {
      if (words_[page / 64].load(std::memory_order_relaxed) >> (page % 64) == 0) {
        page = (page / 64 + 1) * 64;
        continue;
      }
      const size_t first = page;
      while (page < end && has_page(page))
        ++page;
      if (page > first) {
        visit(first, page - first);
      } else {
        ++page;
      }
    }
  }

 private:
  std::array<std::atomic<uint64_t>, kWords> words_{};
};

}  // namespace slabscope::diag
