// SPDX-License-Identifier: MIT

#include "diag/table_pages.h"

#include <elf.h>
#include <link.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>

#include "diag/abi/layout.h"
#include "diag/cfi_object.h"
#include "slab/base/bits.h"
#include "slab/base/sys.h"
#include "slab/pages/vm.h"

namespace slabscope::diag {
namespace {

constexpr uintptr_t kPage = abi::kPageBytes;
constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
constexpr size_t kBytesRead = size_t{64} << 10;  // fault_around_bytes, as the kernel has it
// The largest objects are one or two: those of a compiler, or an interpreter and its libc.
constexpr size_t kLargestObjects = 2;

// Reads since the last return, by object. Two that share a place go back sooner.
constexpr size_t kPlaces = 8;
constinit std::array<std::atomic<uint32_t>, kPlaces> g_reads{};
constinit std::atomic<size_t> g_allowed{0};

// A return costs up to 100 us with the faults that follow, and a large compiler looks up thousands
// of functions. So after the first few, which are all that a small program has, each one is less
// eager: after n reads there were about sqrt(8 n) more of them.
constexpr uint32_t kEagerReturns = 16;
constexpr uint32_t kReturnsPerRead = 4;
constinit std::atomic<uint32_t> g_returns{0};

enum class Tells : uint32_t { kUnknown = 0, kYes = 1, kNo = 2 };
constinit std::atomic<Tells> g_kernel_tells{Tells::kUnknown};

constexpr uint8_t kPcRelativeSdata4 = 0x1b;

// Those within [low, high).
ByteRange whole_pages(uintptr_t low, uintptr_t high) {
  const ByteRange pages{align_up(low, kPage), high & ~(kPage - 1)};
  return pages.low < pages.high ? pages : ByteRange{};
}

long advise(ByteRange pages, int advice) {
  return sys::raw(SYS_madvise, static_cast<long>(pages.low),
                  static_cast<long>(pages.high - pages.low), advice);
}

// MADV_WIPEONFORK is for anonymous memory alone; of a file the kernel refuses it and changes
// nothing. Where it was taken, it is taken back.
bool refuses_to_wipe(uintptr_t page) {
  const long result = advise({page, page + kPage}, MADV_WIPEONFORK);
  if (result == 0)
    advise({page, page + kPage}, MADV_KEEPONFORK);
  return result == -EINVAL;
}

// Kernels before 4.14 refuse it for all memory.
bool kernel_tells() {
  Tells tells = g_kernel_tells.load(std::memory_order_relaxed);
  if (tells == Tells::kUnknown) {
    void* page = vm::map(kPage);
    if (page == nullptr)
      return false;
    tells = refuses_to_wipe(reinterpret_cast<uintptr_t>(page)) ? Tells::kNo : Tells::kYes;
    vm::unmap(page, kPage);
    g_kernel_tells.store(tells, std::memory_order_relaxed);
  }
  return tells == Tells::kYes;
}

// Whether the loader wrote to segments that are not writable.
bool has_text_relocations(const link_map* loaded) {
  if (loaded == nullptr || loaded->l_ld == nullptr)
    return true;
  for (const ElfW(Dyn)* entry = loaded->l_ld; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_TEXTREL ||
        (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0))
      return true;
  }
  return false;
}

std::atomic<uint32_t>& reads_of(const CfiObject& object) {
  return g_reads[(object.index / kPage * 0x9e3779b97f4a7c15U >> 32U) % kPlaces];
}

}  // namespace

void allow_table_bytes(size_t bytes) {
  g_allowed.store(bytes, std::memory_order_relaxed);
}

bool are_of_files(ByteRange pages) {
  if (pages.low == pages.high)
    return true;
  if (!kernel_tells() || !refuses_to_wipe(pages.high - kPage))
    return false;
  for (uintptr_t page = pages.low; page < pages.high; page += kHugePage) {
    if (!refuses_to_wipe(page))
      return false;
  }
  return true;
}

TablePages returnable_pages(const CfiObject& object, const CfiSegment& segment) {
  if (segment.flags == 0 || (segment.flags & PF_W) != 0 || has_text_relocations(object.loaded))
    return {};
  const auto head = read_index(segment.bytes, object.index);
  if (!head || head->frames_encoding != kPcRelativeSdata4)
    return {};
  const uintptr_t frames = head->frames;
  TablePages pages;
  if (frames < object.index) {
    pages.before = whole_pages(frames, object.index);
    pages.after = whole_pages(object.index + 1, head->end());
  } else if ((segment.flags & PF_X) == 0) {
    pages.after = whole_pages(object.index + 1, segment.bytes.high);
  }
  if (!segment.bytes.contains(frames) || !are_of_files(pages.before) || !are_of_files(pages.after))
    return {};
  return pages;
}

void tables_were_read(const CfiObject& object, const CfiSegment& segment) {
  std::atomic<uint32_t>& reads = reads_of(object);
  const uint32_t count = reads.load(std::memory_order_relaxed) + 1;
  const uint32_t returns = g_returns.load(std::memory_order_relaxed);
  const size_t allowed = g_allowed.load(std::memory_order_relaxed) / kLargestObjects;
  const uint32_t past = returns < kEagerReturns ? 0 : returns - kEagerReturns;
  const bool kept = count < past / kReturnsPerRead || count * kBytesRead < allowed;
  reads.store(kept ? count : 0, std::memory_order_relaxed);
  if (kept)
    return;
  g_returns.store(returns + 1, std::memory_order_relaxed);
  const TablePages pages = returnable_pages(object, segment);
  for (const ByteRange range : {pages.before, pages.after}) {
    if (range.low != range.high)
      advise(range, MADV_DONTNEED);
  }
}

}  // namespace slabscope::diag
