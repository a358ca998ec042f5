// SPDX-License-Identifier: MIT

#include "slab/pages/page_map.h"

#include "slab/base/bits.h"
#include "slab/pages/meta.h"
#include "slab/pages/vm.h"

namespace slabscope {
namespace {

// ids are made writable this much at a time: 2 MiB of them cover 16 GiB of heap.
constexpr size_t kIdsStep = 2 << 20;

}  // namespace

constinit PageMap g_page_map;

bool PageMap::init(uintptr_t base, size_t window_bytes) {
  const size_t chunks = window_bytes >> Config::kChunkShift;
  const size_t ids_bytes = align_up(chunks * sizeof(uint16_t), vm::kOsPage);
  const size_t segments_bytes =
      // NOLINTNEXTLINE(bugprone-sizeof-expression): a table of pointers to the segments' chunks.
      align_up(chunks / Config::kChunksPerSegment * sizeof(Chunk*), vm::kOsPage);
  void* ids = vm::reserve_readable(ids_bytes);
  if (ids == nullptr)
    return false;
  void* segments = vm::map(segments_bytes);
  if (segments == nullptr) {
    vm::unmap(ids, ids_bytes);
    return false;
  }
  vm::exclude_from_dumps(ids, ids_bytes);
  ids_ = static_cast<uint16_t*>(ids);
  segments_ = static_cast<Chunk**>(segments);
  base_ = base;
  limit_ = chunks;
  return true;
}

bool PageMap::cover_ids(size_t index, size_t count) {
  const size_t total = align_up(limit_ * sizeof(uint16_t), vm::kOsPage);
  size_t low = align_down(index * sizeof(uint16_t), kIdsStep);
  size_t high = align_up((index + count) * sizeof(uint16_t), kIdsStep);
  if (high > total)
    high = total;
  if (ids_writable_high_ != 0) {
    if (low >= ids_writable_low_ && high <= ids_writable_high_)
      return true;
    if (low > ids_writable_low_)
      low = ids_writable_low_;
    if (high < ids_writable_high_)
      high = ids_writable_high_;
  }
  if (!vm::make_writable(reinterpret_cast<char*>(ids_) + low, high - low))
    return false;
  ids_writable_low_ = low;
  ids_writable_high_ = high;
  return true;
}

bool PageMap::cover(size_t index, size_t count) {
  if (!cover_ids(index, count))
    return false;
  for (size_t segment = index / Config::kChunksPerSegment;
       segment <= (index + count - 1) / Config::kChunksPerSegment; ++segment) {
    if (segments_[segment] != nullptr)
      continue;
    void* records = meta_allocate(Config::kChunksPerSegment * sizeof(Chunk));
    if (records == nullptr)
      return false;
    __atomic_store_n(&segments_[segment], static_cast<Chunk*>(records), __ATOMIC_RELEASE);
  }
  if (index + count > top_)
    __atomic_store_n(&top_, index + count, __ATOMIC_RELEASE);
  return true;
}

void PageMap::set_ids(size_t index, size_t count, unsigned id) {
  for (size_t i = index; i < index + count; ++i) {
    __atomic_store_n(&ids_[i], static_cast<uint16_t>(id), __ATOMIC_RELEASE);
  }
}

}  // namespace slabscope
