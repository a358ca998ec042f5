// SPDX-License-Identifier: MIT

#include "slab/cache/kmem_cache.h"

#include "slab/base/panic.h"
#include "slab/cache/record_table.h"
#include "slab/cache/slab_walk.h"
#include "slab/pages/page_heap.h"
#include "slab/pages/page_map.h"

namespace slabscope {
namespace {

FreeObject* object_at(const Slab* slab, uint32_t object_size, uint32_t index) {
  return reinterpret_cast<FreeObject*>(slab->base + size_t{index} * object_size);
}

}  // namespace

void KmemCache::init(unsigned id, size_t object_size, size_t slab_bytes, Tracked tracked,
                     CacheStats* stats) {
  id_ = id;
  object_size_ = static_cast<uint32_t>(object_size);
  slab_chunks_ = static_cast<uint32_t>(slab_bytes >> Config::kChunkShift);
  tracked_ = tracked == Tracked::kYes;
  capacity_ = static_cast<uint32_t>(slab_bytes / object_size);
  divider_ = Divider(object_size_);
  stats_ = stats;
  set_mapped_id(tracked_ ? 0 : id);
}

// ---- slabs come and go ----------------------------------------------------------------------

Slab* KmemCache::acquire(bool* waited) {
  if (!mutex_.try_lock()) {
    if (waited != nullptr)
      *waited = true;
    mutex_.lock();
  }
  Slab* slab = fullest_locked();
  if (slab != nullptr)
    take_from_list_locked(slab);
  mutex_.unlock();
  return slab != nullptr ? slab : grow();
}

Slab* KmemCache::acquire_used() {
  if (stat_get(stats_->slabs_partial) == 0)
    return nullptr;
  MutexLock lock(mutex_);
  Slab* slab = fullest_locked();
  if (slab == nullptr || slab->load().count == 0)
    return nullptr;
  take_from_list_locked(slab);
  return slab;
}

// Of the first few, so that the others may become empty; one without returned objects only if there
// is no other.
Slab* KmemCache::fullest_locked() {
  unsigned looks = 6;
  Slab* best = nullptr;
  uint32_t most = 0;
  for (Slab* slab = partial_.front(); slab != nullptr && looks-- > 0; slab = partial_.after(slab)) {
    const SlabWord word = slab->load();
    if (best != nullptr && word.count == 0)
      break;  // those without returned objects are at the back
    if (best == nullptr || word.out() > most) {
      best = slab;
      most = word.out();
    }
  }
  return best;
}

void KmemCache::take_from_list_locked(Slab* slab) {
  unlist_locked(slab);
  // Still PARTIAL, but unlisted: a thread that empties it now leaves it alone.
  SlabWord word = slab->load();
  SlabWord wanted;
  do {
    wanted = word;
    wanted.state = SlabState::kCurrent;
  } while (!slab->replace(word, wanted));
}

Slab* KmemCache::grow() {
  if (budget_ != nullptr && !budget_->take(slab_bytes()))
    return nullptr;
  Slab* slab = grow_within_budget();
  if (slab == nullptr && budget_ != nullptr)
    budget_->give(slab_bytes());
  return slab;
}

Slab* KmemCache::grow_within_budget() {
  Slab* slab = slab_record_new();
  if (slab == nullptr)
    return nullptr;
  slab->records = tracked_ ? record_table_new(capacity_) : nullptr;
  bool zeroed = false;
  const size_t first = tracked_ && slab->records == nullptr
                           ? PageHeap::kNoRun
                           : g_page_heap.allocate(slab_chunks_, 1, &zeroed);
  if (first == PageHeap::kNoRun) {
    if (slab->records != nullptr)
      record_table_delete(slab->records, capacity_);
    slab_record_delete(slab);
    return nullptr;
  }
  slab->base = static_cast<char*>(g_page_map.address_of(first));
  slab->first_chunk = static_cast<uint32_t>(first);
  slab->listed = false;
  slab->counted_empty = false;
  slab->idle_since = 0;
  slab->word.store(SlabWord{.state = SlabState::kCurrent}.pack(), std::memory_order_relaxed);
  slab->cache.store(this, std::memory_order_release);
  for (size_t i = first; i < first + slab_chunks_; ++i) {
    Chunk* chunk = g_page_map.chunk(i);
    __atomic_store_n(&chunk->slab, slab, __ATOMIC_RELAXED);
    chunk->kind.store(ChunkKind::kSlab, std::memory_order_release);
  }
  slab_count_.fetch_add(1, std::memory_order_relaxed);
  g_page_map.set_ids(first, slab_chunks_, mapped_id_.load(std::memory_order_acquire));
  if (zeroed)
    g_page_heap.after_fresh(PageHeap::Grown::kToLast);
  stat_add(stats_->slabs, 1);
  stat_add(stats_->slabs_grown, 1);
  stat_add(g_heap_stats->mapped_slab_bytes, slab_bytes());
  return slab;
}

// All of the slab's objects are in it and it is on no list: nobody else can reach it.
void KmemCache::release_slab(Slab* slab) {
  const size_t first = slab->first_chunk;
  if (tracked_)
    record_table_delete(slab->records, capacity_);
  g_page_map.set_ids(first, slab_chunks_, 0);
  for (size_t i = first; i < first + slab_chunks_; ++i) {
    g_page_map.chunk(i)->kind.store(ChunkKind::kNone, std::memory_order_release);
  }
  slab_record_delete(slab);
  g_page_heap.release(first, slab_chunks_);
  stat_sub(stats_->slabs, 1);
  stat_add(stats_->slabs_released, 1);
  stat_sub(g_heap_stats->mapped_slab_bytes, slab_bytes());
  if (budget_ != nullptr)
    budget_->give(slab_bytes());
  slab_count_.fetch_sub(1, std::memory_order_release);  // last: the cache may go away with it
}

void KmemCache::unlist_locked(Slab* slab) {
  slab->unlink();
  slab->listed = false;
  slab->idle_since = 0;
  --partial_count_;
  stat_sub(stats_->slabs_partial, 1);
  set_counted_empty_locked(slab, false);
}

void KmemCache::set_counted_empty_locked(Slab* slab, bool counted) {
  if (slab->counted_empty == counted)
    return;
  slab->counted_empty = counted;
  empty_count_ += counted ? 1U : -1U;
  stat_add(stats_->slabs_empty, counted ? uint64_t{1} : ~uint64_t{0});
}

// The slab has just become PARTIAL and belongs to the caller until it is on the list.
void KmemCache::list_slab(Slab* slab) {
  {
    MutexLock lock(mutex_);
    const SlabWord word = slab->load();
    const bool empty = is_empty(word);
    if (!empty || keeps_locked(partial_count_)) {
      slab->listed = true;
      // What was used and came back is used first, what was never touched last.
      if (word.count == 0) {
        partial_.push_back(slab);
      } else {
        partial_.push_front(slab);
      }
      set_counted_empty_locked(slab, empty);
      ++partial_count_;
      stat_add(stats_->slabs_partial, 1);
      return;
    }
    slab->cache.store(nullptr, std::memory_order_release);
  }
  release_slab(slab);
}

// The caller's put() was the one after which nothing of the slab was out. Since then the slab may
// have been acquired, released, even reused: look again under the lock.
void KmemCache::slab_emptied(Slab* slab) {
  {
    MutexLock lock(mutex_);
    if (slab->cache.load(std::memory_order_acquire) != this || !slab->listed ||
        !is_empty(slab->load())) {
      return;
    }
    // The last one stays, for a program that frees and allocates in turn.
    if (keeps_locked(partial_count_ - 1)) {
      set_counted_empty_locked(slab, true);
      return;
    }
    unlist_locked(slab);
    slab->cache.store(nullptr, std::memory_order_release);
  }
  release_slab(slab);
}

void KmemCache::leave(Slab* slab) {
  SlabWord word = slab->load();
  SlabWord wanted;
  do {
    wanted = word;
    const bool gives = word.count > 0 || word.carved < capacity_;
    wanted.state = gives ? SlabState::kPartial : SlabState::kFull;
  } while (!slab->replace(word, wanted));
  if (wanted.state == SlabState::kPartial)
    list_slab(slab);
}

unsigned KmemCache::shrink() {
  {
    MutexLock lock(mutex_);
    if (keep_ == KeepEmpty::kAll)
      return 0;
  }
  unsigned released = 0;
  for (Slab* victim = take_empty(); victim != nullptr; victim = take_empty()) {
    release_slab(victim);
    ++released;
  }
  return released;
}

Slab* KmemCache::take_empty() {
  MutexLock lock(mutex_);
  Slab* victim = nullptr;
  for (Slab* slab = partial_.front(); slab != nullptr; slab = partial_.after(slab)) {
    if (is_empty(slab->load()))
      victim = slab;
  }
  if (victim != nullptr)
    take_away_locked(victim);
  return victim;
}

void KmemCache::take_away_locked(Slab* slab) {
  unlist_locked(slab);
  slab->cache.store(nullptr, std::memory_order_release);
}

uint32_t KmemCache::mark_idle() {
  MutexLock lock(mutex_);
  if (++idle_marks_ == 0)
    ++idle_marks_;
  for (Slab* slab = partial_.front(); slab != nullptr; slab = partial_.after(slab)) {
    if (slab->idle_since == 0 && is_empty(slab->load()))
      slab->idle_since = idle_marks_;
  }
  return idle_marks_;
}

Slab* KmemCache::take_idle(uint32_t mark) {
  MutexLock lock(mutex_);
  for (Slab* slab = partial_.front(); slab != nullptr; slab = partial_.after(slab)) {
    if (slab->idle_since == 0 || static_cast<int32_t>(mark - slab->idle_since) < 0)
      continue;
    take_away_locked(slab);
    return slab;
  }
  return nullptr;
}

SlabCensus KmemCache::census() {
  SlabCensus found{};
  if (slabs() == 0)
    return found;
  for_each_slab(*this, [&](const Slab* slab) {
    found.current += slab->load().state == SlabState::kCurrent ? 1U : 0U;
  });
  MutexLock lock(mutex_);
  for (Slab* slab = partial_.front(); slab != nullptr; slab = partial_.after(slab))
    found.partial_objects += slab->load().out();
  return found;
}

void KmemCache::set_keep_empty(KeepEmpty keep) {
  MutexLock lock(mutex_);
  keep_ = keep;
}

// Under the lock, because a slab leaves the cache under it: what is another's by now is left alone.
void KmemCache::remap(Slab* slab) {
  MutexLock lock(mutex_);
  if (slab->cache.load(std::memory_order_acquire) != this)
    return;
  g_page_map.set_ids(slab->first_chunk, slab_chunks_, mapped_id_.load(std::memory_order_acquire));
}

// ---- objects come and go --------------------------------------------------------------------

Chain KmemCache::take_returned(Slab* slab, uint32_t wanted) {
  SlabWord word = slab->load();
  while (word.count > 0) {
    Chain chain{object_at(slab, object_size_, word.head - 1U), nullptr, 1};
    chain.tail = chain.head;
    for (; chain.count < wanted && chain.count < word.count; ++chain.count) {
      chain.tail = next_of(slab, chain.tail);
    }
    // Others may push meanwhile, which moves the head and fails the exchange; nobody else takes
    // out, so a head that is still there has not been away.
    SlabWord rest = word;
    rest.count = static_cast<uint16_t>(word.count - chain.count);
    rest.head = 0;
    if (rest.count > 0) {
      rest.head = static_cast<uint16_t>(index_of(slab, next_of(slab, chain.tail)) + 1);
    }
    if (!slab->replace(word, rest))
      continue;
    chain.tail->next = nullptr;
    count_out(chain.count);
    return chain;
  }
  return {};
}

// The free object behind `object` in its slab's chain. The link lies in memory that the program has
// freed: a write after free shows here, and so does a second free, which made it a thread list's
// link.
FreeObject* KmemCache::next_of(const Slab* slab, const FreeObject* object) const {
  FreeObject* next = object->next;
  const size_t offset = reinterpret_cast<uintptr_t>(next) - reinterpret_cast<uintptr_t>(slab->base);
  if (SC_UNLIKELY(offset >= slab_bytes() || index_of(slab, next) == kNotAnObject))
    bad_link(object, next);
  return next;
}

void KmemCache::bad_link(const FreeObject* object, const FreeObject* next) const {
  const Chunk* chunk = g_page_map.find(next);
  const bool ours = chunk != nullptr &&
                    chunk->kind.load(std::memory_order_acquire) == ChunkKind::kSlab &&
                    chunk->slab->cache.load(std::memory_order_relaxed) == this &&
                    index_of(chunk->slab, next) != kNotAnObject;
  if (next != nullptr && !ours)
    panic("write after free to", object, "the link to the next free object is gone");
  stat_add(g_heap_stats->errors_double_free, 1);
  if (ours)
    panic("double free of", object, "it is free already");
  panic("double free of", object,
        "or a write after free: the link to the next free object is zero");
}

Chain KmemCache::carve(Slab* slab, uint32_t wanted) {
  const uint32_t first = slab->load().carved;
  const uint32_t count = wanted < capacity_ - first ? wanted : capacity_ - first;
  if (count == 0)
    return {};
  Chain chain{object_at(slab, object_size_, first),
              object_at(slab, object_size_, first + count - 1), count};
  for (uint32_t i = first; i + 1 < first + count; ++i) {
    object_at(slab, object_size_, i)->next = object_at(slab, object_size_, i + 1);
  }
  chain.tail->next = nullptr;
  slab->word.fetch_add(uint64_t{count} << 32, std::memory_order_acq_rel);
  count_out(count);
  return chain;
}

// The peak may miss a moment between two threads' steps; it never runs ahead of the truth.
void KmemCache::count_out(uint32_t count) {
  const uint64_t out = __atomic_add_fetch(&stats_->objects_out, count, __ATOMIC_RELAXED);
  if (out > stat_get(stats_->peak_active_objects))
    stat_set(stats_->peak_active_objects, out);
}

// More objects came back than were taken: says which one, if it is found twice.
void KmemCache::double_free(const Slab* slab, const SlabWord& word, const Chain& chain) const {
  stat_add(g_heap_stats->errors_double_free, 1);
  const FreeObject* back = word.head == 0 ? nullptr : object_at(slab, object_size_, word.head - 1U);
  for (uint32_t i = 0; i < word.count && back != nullptr; ++i, back = back->next) {
    const FreeObject* object = chain.head;
    for (uint32_t k = 0; k < chain.count && object != nullptr; ++k, object = object->next) {
      if (object == back)
        panic("double free of", object, "it is free already");
    }
  }
  const FreeObject* object = chain.head;
  for (uint32_t i = 0; i < chain.count && object != nullptr; ++i, object = object->next) {
    const FreeObject* other = object->next;
    for (uint32_t k = i + 1; k < chain.count && other != nullptr; ++k, other = other->next) {
      if (object == other)
        panic("double free of", object, "it is free already");
    }
  }
  panic("double free of an object near", chain.head, "more came back to its slab than were taken");
}

void KmemCache::put(Slab* slab, Chain chain) {
  const uint32_t head_index = index_of(slab, chain.head);
  SlabWord word = slab->load();
  SlabWord wanted;
  do {
    if (SC_UNLIKELY(chain.count > word.out()))
      double_free(slab, word, chain);
    chain.tail->next = word.head == 0 ? nullptr : object_at(slab, object_size_, word.head - 1U);
    wanted = word;
    wanted.head = static_cast<uint16_t>(head_index + 1);
    wanted.count = static_cast<uint16_t>(word.count + chain.count);
    if (word.state == SlabState::kFull)
      wanted.state = SlabState::kPartial;
  } while (!slab->replace(word, wanted));
  stat_sub(stats_->objects_out, chain.count);
  if (word.state == SlabState::kFull) {
    list_slab(slab);
  } else if (word.state == SlabState::kPartial && is_empty(wanted)) {
    slab_emptied(slab);
  }
}

void KmemCache::validate() {
  MutexLock lock(mutex_);
  uint32_t count = 0;
  for (Slab* slab = partial_.front(); slab != nullptr; slab = partial_.after(slab)) {
    const SlabWord word = slab->load();
    SC_CHECK(slab->listed && slab->cache.load(std::memory_order_relaxed) == this);
    SC_CHECK(word.state == SlabState::kPartial);
    SC_CHECK(word.count <= word.carved && word.carved <= capacity_);
    SC_CHECK(word.count > 0 || word.carved < capacity_);
    SC_CHECK((word.head == 0) == (word.count == 0));
    ++count;
  }
  SC_CHECK(count == partial_count_);
}

}  // namespace slabscope
