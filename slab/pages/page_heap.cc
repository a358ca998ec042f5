// SPDX-License-Identifier: MIT

#include "slab/pages/page_heap.h"

#include "slab/base/bits.h"
#include "slab/base/clock.h"
#include "slab/base/due.h"
#include "slab/base/panic.h"
#include "slab/base/stats.h"
#include "slab/base/sys.h"
#include "slab/pages/vm.h"

namespace slabscope {
namespace {

constexpr size_t bytes_of(size_t chunks) {
  return chunks << Config::kChunkShift;
}

// Where windows start: far above what the kernel gives to mmap(NULL) callers and below the stack.
// Sixteen bits of the monotonic clock and of the stack's random place spread it over 64 TiB.
constexpr uintptr_t kWindowFloor = uintptr_t{0x1000} << 32;  // 16 TiB
uintptr_t window_hint() {
  int here = 0;
  const uint64_t entropy = (reinterpret_cast<uintptr_t>(&here) >> 12) ^ (monotonic_ns() >> 4);
  return kWindowFloor + ((entropy & 0x3fff) << 32);
}

}  // namespace

constinit PageHeap g_page_heap;

size_t PageHeap::bin_of(size_t count) {
  if (count < kExactBins)
    return count;
  const unsigned doubling = log2_floor(count);
  const size_t quarter = (count >> (doubling - 2)) & 3;
  const size_t bin = kExactBins + (doubling - 8) * 4 + quarter;
  return bin < kBins ? bin : kBins - 1;
}

// ---- start and growth -----------------------------------------------------------------------

bool PageHeap::ready_locked() {
  if (SC_LIKELY(ready_))
    return true;
  clean_.first.fill(kNone);
  dirty_.first.fill(kNone);
  ready_ = choose_window_locked();
  return ready_;
}

void PageHeap::prepare() {
  MutexLock lock(mutex_);
  (void)ready_locked();
}

bool PageHeap::choose_window_locked() {
  const bool limited = vm::address_space_limit() < (size_t{64} << 30);
  const size_t window = limited ? Config::kSmallWindow : Config::kWindow;
  const uintptr_t hint = window_hint();
  if (vm::map_at(reinterpret_cast<void*>(hint), vm::kOsPage)) {
    vm::unmap(reinterpret_cast<void*>(hint), vm::kOsPage);
    return g_page_map.init(hint, window);
  }
  // The hint is refused (valgrind, 39-bit address spaces): centre the window on the kernel's
  // choice.
  void* probe = vm::map(Config::kSegment);
  if (probe == nullptr)
    return false;
  vm::unmap(probe, Config::kSegment);
  // To kHugeMin, the first alignment that page runs need not have: allocate() aligns chunk numbers.
  const uintptr_t middle = align_down(reinterpret_cast<uintptr_t>(probe), Config::kHugeMin);
  top_ = middle > window / 2 ? (window / 2) >> Config::kChunkShift : 0;
  return g_page_map.init(middle - bytes_of(top_), window);
}

// Maps at least `count` chunks and adds them to the clean runs; kNoRun if that fails. Otherwise
// returns any chunk of the new run.
size_t PageHeap::grow_locked(size_t count) {
  size_t wanted = align_up(count, Config::kChunksPerSegment);
  // What is free and clean just below the top is the beginning of the run, need not be mapped.
  const Chunk* below = top_ > 0 ? g_page_map.chunk(top_ - 1) : nullptr;
  if (below != nullptr && below->kind.load(std::memory_order_relaxed) == ChunkKind::kFree &&
      !below->dirty) {
    const size_t have = top_ - below->run_head;
    if (have < count)
      wanted = align_up(count - have, Config::kChunksPerSegment);
  }
  size_t index = grow_at_locked(top_, wanted);
  if (index == kNoRun)
    index = grow_anywhere_locked(align_up(count, Config::kChunksPerSegment));
  if (index == kNoRun)
    index = grow_at_locked(top_, count);  // memory is short: no more than needed
  return index;
}

size_t PageHeap::grow_at_locked(size_t index, size_t count) {
  if (index + count > g_page_map.chunk_limit() || index + count < index)
    return kNoRun;
  void* address = g_page_map.address_of(index);
  if (!vm::map_at(address, bytes_of(count)))
    return kNoRun;
  if (!g_page_map.cover(index, count)) {
    vm::unmap(address, bytes_of(count));
    return kNoRun;
  }
  top_ = index + count;
  stat_add(g_heap_stats->segments, 1);
  stat_add(g_heap_stats->mapped_free_bytes, bytes_of(count));
  insert_locked(index, count, false, 0);
  return index;
}

// Something else is mapped at the top: step over it, or take what the kernel offers in the window.
size_t PageHeap::grow_anywhere_locked(size_t count) {
  for (size_t step = Config::kChunksPerSegment; step <= size_t{1} << 16; step *= 4) {
    const size_t index = align_up(top_ + step, Config::kChunksPerSegment);
    if (grow_at_locked(index, count) != kNoRun)
      return index;
  }
  void* found = vm::map(bytes_of(count) + Config::kSegment);
  if (found == nullptr)
    return kNoRun;
  vm::unmap(found, bytes_of(count) + Config::kSegment);
  const uintptr_t aligned = align_up(reinterpret_cast<uintptr_t>(found), Config::kSegment);
  return grow_at_locked(g_page_map.index_of(reinterpret_cast<void*>(aligned)), count);
}

// ---- free runs ------------------------------------------------------------------------------

void PageHeap::age_append_locked(size_t index) {
  Chunk* chunk = g_page_map.chunk(index);
  const auto self = static_cast<uint32_t>(index);
  chunk->newer = kNone;
  chunk->older = newest_;
  if (newest_ != kNone) {
    g_page_map.chunk(newest_)->newer = self;
  } else {
    oldest_ = self;
  }
  newest_ = self;
}

void PageHeap::age_remove_locked(size_t index) {
  const Chunk* chunk = g_page_map.chunk(index);
  if (chunk->older != kNone) {
    g_page_map.chunk(chunk->older)->newer = chunk->newer;
  } else {
    oldest_ = chunk->newer;
  }
  if (chunk->newer != kNone) {
    g_page_map.chunk(chunk->newer)->older = chunk->older;
  } else {
    newest_ = chunk->older;
  }
}

// Adds a run to its bin (and age list), merged with free neighbours of its kind.
void PageHeap::insert_locked(size_t index, size_t count, bool dirty, uint32_t freed_ms) {
  if (index > 0) {
    const Chunk* left = g_page_map.chunk(index - 1);
    if (left != nullptr && left->kind.load(std::memory_order_relaxed) == ChunkKind::kFree &&
        left->dirty == dirty) {
      const size_t head = left->run_head;
      remove_locked(head);
      count += index - head;
      index = head;
    }
  }
  const Chunk* right =
      index + count < g_page_map.chunk_limit() ? g_page_map.chunk(index + count) : nullptr;
  if (right != nullptr && right->kind.load(std::memory_order_relaxed) == ChunkKind::kFree &&
      right->dirty == dirty) {
    const size_t length = right->length;
    remove_locked(index + count);
    count += length;
  }
  Chunk* head = g_page_map.chunk(index);
  Chunk* tail = g_page_map.chunk(index + count - 1);
  Runs& runs = runs_of(dirty);
  const size_t bin = bin_of(count);
  tail->dirty = head->dirty = dirty;
  tail->run_head = static_cast<uint32_t>(index);
  head->run_head = static_cast<uint32_t>(index);
  head->length = static_cast<uint32_t>(count);
  head->record = freed_ms;
  head->bin.previous = kNone;
  head->bin.next = runs.first[bin];
  if (head->bin.next != kNone) {
    g_page_map.chunk(head->bin.next)->bin.previous = static_cast<uint32_t>(index);
  }
  runs.first[bin] = static_cast<uint32_t>(index);
  runs.used[bin / 64] |= uint64_t{1} << (bin % 64);
  tail->kind.store(ChunkKind::kFree, std::memory_order_relaxed);
  head->kind.store(ChunkKind::kFree, std::memory_order_relaxed);
  if (dirty) {
    dirty_chunks_ += count;
    stat_add(g_heap_stats->free_dirty_bytes, bytes_of(count));
    age_append_locked(index);
  }
}

// Takes the free run that starts at `index` out of its lists and clears its chunks' kinds.
void PageHeap::remove_locked(size_t index) {
  Chunk* head = g_page_map.chunk(index);
  const size_t count = head->length;
  Runs& runs = runs_of(head->dirty);
  const size_t bin = bin_of(count);
  if (head->bin.previous != kNone) {
    g_page_map.chunk(head->bin.previous)->bin.next = head->bin.next;
  } else {
    runs.first[bin] = head->bin.next;
    if (head->bin.next == kNone)
      runs.used[bin / 64] &= ~(uint64_t{1} << (bin % 64));
  }
  if (head->bin.next != kNone) {
    g_page_map.chunk(head->bin.next)->bin.previous = head->bin.previous;
  }
  if (head->dirty) {
    dirty_chunks_ -= count;
    stat_sub(g_heap_stats->free_dirty_bytes, bytes_of(count));
    age_remove_locked(index);
  }
  head->kind.store(ChunkKind::kNone, std::memory_order_relaxed);
  g_page_map.chunk(index + count - 1)->kind.store(ChunkKind::kNone, std::memory_order_relaxed);
}

// The smallest run of at least `count` chunks; kNoRun if there is none.
size_t PageHeap::find_locked(const Runs& runs, size_t count) {
  size_t bin = bin_of(count);
  if (bin >= kExactBins) {  // a bin of mixed lengths: look for the best that is long enough
    size_t best = kNoRun;
    size_t best_length = SIZE_MAX;
    for (uint32_t i = runs.first[bin]; i != kNone; i = g_page_map.chunk(i)->bin.next) {
      const size_t length = g_page_map.chunk(i)->length;
      if (length >= count && length < best_length) {
        best = i;
        best_length = length;
      }
    }
    if (best != kNoRun)
      return best;
    ++bin;
  }
  for (size_t word = bin / 64; word < runs.used.size(); ++word) {
    uint64_t bits = runs.used[word];
    if (word == bin / 64)
      bits &= ~uint64_t{0} << (bin % 64);
    if (bits != 0)
      return runs.first[word * 64 + static_cast<size_t>(__builtin_ctzll(bits))];
  }
  return kNoRun;
}

size_t PageHeap::take_locked(size_t count, bool* zeroed) {
  size_t index = find_locked(dirty_, count);
  if (index == kNoRun)
    index = find_locked(clean_, count);
  if (index == kNoRun) {
    if (grow_locked(count) == kNoRun)
      return kNoRun;
    index = find_locked(clean_, count);
    if (index == kNoRun)
      return kNoRun;
  }
  const Chunk* head = g_page_map.chunk(index);
  const bool dirty = head->dirty;
  const size_t length = head->length;
  const uint32_t freed_ms = head->record;
  remove_locked(index);
  if (length > count)
    insert_locked(index + count, length - count, dirty, freed_ms);
  *zeroed = !dirty;
  return index;
}

size_t PageHeap::allocate(size_t count, size_t alignment, bool* zeroed) {
  MutexLock lock(mutex_);
  if (!ready_locked())
    return kNoRun;
  size_t index = take_locked(count + alignment - 1, zeroed);
  if (index == kNoRun)
    return kNoRun;
  const size_t aligned = align_up(index, alignment);
  const size_t after = index + alignment - 1 - aligned;  // surplus behind
  const uint32_t now = __atomic_load_n(&now_ms_, __ATOMIC_RELAXED);
  if (aligned > index)
    insert_locked(index, aligned - index, !*zeroed, now);
  if (after > 0)
    insert_locked(aligned + count, after, !*zeroed, now);
  in_use_ += count;
  stat_sub(g_heap_stats->mapped_free_bytes, bytes_of(count));
  return aligned;
}

void PageHeap::release(size_t index, size_t count, Contents contents) {
  MutexLock lock(mutex_);
  in_use_ -= count;
  stat_add(g_heap_stats->mapped_free_bytes, bytes_of(count));
  insert_locked(index, count, contents == Contents::kData,
                __atomic_load_n(&now_ms_, __ATOMIC_RELAXED));
}

// Chunks that are free from `index` on, in one run or several of either kind.
size_t PageHeap::free_behind_locked(size_t index, size_t enough) {
  size_t length = 0;
  while (length < enough && index + length < g_page_map.chunk_limit()) {
    const Chunk* chunk = g_page_map.chunk(index + length);
    if (chunk == nullptr || chunk->kind.load(std::memory_order_relaxed) != ChunkKind::kFree ||
        chunk->run_head != index + length) {
      break;
    }
    length += chunk->length;
  }
  return length;
}

bool PageHeap::extend(size_t index, size_t count, size_t wanted, bool* fresh) {
  MutexLock lock(mutex_);
  const size_t more = wanted - count;
  if (free_behind_locked(index + count, more) < more)
    return false;
  for (size_t next = index + count; next < index + wanted;) {
    const Chunk* chunk = g_page_map.chunk(next);
    const bool dirty = chunk->dirty;
    if (!dirty && fresh != nullptr)
      *fresh = true;
    const size_t length = chunk->length;
    const uint32_t freed_ms = chunk->record;
    remove_locked(next);
    const size_t left = index + wanted - next;
    if (length > left)
      insert_locked(index + wanted, length - left, dirty, freed_ms);
    next += length;
  }
  in_use_ += more;
  stat_sub(g_heap_stats->mapped_free_bytes, bytes_of(more));
  return true;
}

// ---- giving memory back ---------------------------------------------------------------------

namespace {

// How many dirty chunks may be, by a fraction of those in use and a least number of bytes.
size_t bound_of(size_t in_use, unsigned fraction, size_t floor_bytes) {
  const size_t floor = floor_bytes >> Config::kChunkShift;
  return in_use / fraction > floor ? in_use / fraction : floor;
}

void count_released(size_t chunks) {
  if (chunks == 0)
    return;
  stat_add(g_heap_stats->released_bytes, bytes_of(chunks));
  stat_add(g_heap_stats->release_runs, 1);
}

}  // namespace

// How many dirty chunks there are beyond those that may be.
size_t PageHeap::surplus_locked() const {
  const size_t bound = bound_of(in_use_, Config::kDirtyFraction, Config::kDirtyFloor);
  return dirty_chunks_ > bound ? dirty_chunks_ - bound : 0;
}

// How many make the heap larger than it ever was.
size_t PageHeap::above_peak_locked() const {
  const size_t bound = bound_of(in_use_, Config::kPeakDirtyFraction, Config::kPeakDirtyFloor);
  const size_t resident = in_use_ + dirty_chunks_;
  if (resident <= peak_ || dirty_chunks_ <= bound ||
      given_for_peak_ >= most_in_use_ * Config::kPeakGivenBack)
    return 0;
  const size_t surplus = dirty_chunks_ - bound;
  return resident - peak_ < surplus ? resident - peak_ : surplus;
}

// Gives the oldest dirty run back, or its last `most` chunks. The lock is not held meanwhile.
// Returns how many it was; 0 if the kernel refused.
size_t PageHeap::give_back_locked(size_t most, uint32_t now_ms) {
  size_t index = oldest_;
  const Chunk* head = g_page_map.chunk(index);
  size_t count = head->length;
  const uint32_t freed_ms = head->record;
  remove_locked(index);  // nobody can reach the run now
  if (count > most) {
    insert_locked(index, count - most, true, freed_ms);
    index += count - most;
    count = most;
  }
  mutex_.unlock();
  const bool clean = vm::purge(g_page_map.address_of(index), bytes_of(count));
  mutex_.lock();
  insert_locked(index, count, !clean, now_ms);
  return clean ? count : 0;
}

size_t PageHeap::purge(uint32_t now_ms, uint32_t decay_ms) {
  size_t released = 0;
  mutex_.lock();
  // There are at most as many runs as dirty chunks: what others free meanwhile can wait.
  for (size_t rounds = dirty_chunks_; rounds > 0 && oldest_ != kNone; --rounds) {
    const bool due = is_due(now_ms, g_page_map.chunk(oldest_)->record, decay_ms);
    if (!due && surplus_locked() == 0)
      break;
    const size_t count = give_back_locked(SIZE_MAX, now_ms);
    if (count == 0)
      break;
    released += count;
  }
  mutex_.unlock();
  count_released(released);
  return bytes_of(released);
}

void PageHeap::after_fresh(Grown grown) {
  constexpr size_t kLeast = Config::kLeastGivenBack >> Config::kChunkShift;
  size_t released = 0;
  mutex_.lock();
  if (most_in_use_ < in_use_)
    most_in_use_ = in_use_;
  for (size_t rounds = dirty_chunks_; rounds > 0 && oldest_ != kNone; --rounds) {
    const size_t surplus = grown == Grown::kToLast ? surplus_locked() : 0;
    const size_t above = above_peak_locked();
    const size_t wanted = surplus > above ? surplus : above;
    if (wanted == 0)
      break;
    const size_t count = give_back_locked(wanted > kLeast ? wanted : kLeast,
                                          __atomic_load_n(&now_ms_, __ATOMIC_RELAXED));
    if (count == 0)
      break;
    released += count;
    if (surplus < above)
      given_for_peak_ += count;
  }
  if (peak_ < in_use_ + dirty_chunks_)
    peak_ = in_use_ + dirty_chunks_;
  mutex_.unlock();
  count_released(released);
}

// ---- checks ---------------------------------------------------------------------------------

void PageHeap::validate_bin_locked(const Runs& runs, size_t bin, bool dirty) {
  SC_CHECK((runs.first[bin] != kNone) == ((runs.used[bin / 64] >> (bin % 64) & 1) != 0));
  for (uint32_t i = runs.first[bin]; i != kNone; i = g_page_map.chunk(i)->bin.next) {
    const Chunk* head = g_page_map.chunk(i);
    const Chunk* tail = g_page_map.chunk(i + head->length - 1);
    SC_CHECK(head->kind.load(std::memory_order_relaxed) == ChunkKind::kFree);
    SC_CHECK(tail->kind.load(std::memory_order_relaxed) == ChunkKind::kFree);
    SC_CHECK(head->run_head == i && tail->run_head == i && bin_of(head->length) == bin);
    SC_CHECK(head->dirty == dirty && tail->dirty == dirty);
    const Chunk* right = g_page_map.chunk(i + head->length);
    SC_CHECK(right == nullptr || right->kind.load(std::memory_order_relaxed) != ChunkKind::kFree ||
             right->dirty != dirty);
  }
}

Slab* PageHeap::slab_at(size_t index) {
  MutexLock lock(mutex_);
  const Chunk* chunk = g_page_map.chunk(index);
  return chunk != nullptr && chunk->kind.load(std::memory_order_acquire) == ChunkKind::kSlab
             ? chunk->slab
             : nullptr;
}

void PageHeap::validate() {
  MutexLock lock(mutex_);
  if (!ready_)
    return;
  for (size_t bin = 1; bin < kBins; ++bin) {
    validate_bin_locked(clean_, bin, false);
    validate_bin_locked(dirty_, bin, true);
  }
  size_t dirty = 0;
  for (uint32_t i = oldest_; i != kNone; i = g_page_map.chunk(i)->newer) {
    dirty += g_page_map.chunk(i)->length;
  }
  SC_CHECK(dirty == dirty_chunks_);
}

}  // namespace slabscope
