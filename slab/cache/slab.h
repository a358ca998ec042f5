// SPDX-License-Identifier: MIT
//
// Slab: one page run cut into objects of one size, and the list of those that are back in it.
//
//            acquire()                        put(): first object back
//   PARTIAL ───────────► CURRENT ──leave()──► FULL ───────────► PARTIAL ──(all back)──► page heap
//   (cache's list)       (one thread refills   (nobody's,        (on the list as soon as
//                         from it)              no list)          the cache's lock is had)
//
//   word: │ state:16 │ carved:16 │ count:16 │ head:16 │      one atomic 64-bit word
//   head names the first free object (index + 1), count how many are chained behind it, carved how
//   many objects were ever handed out: what lies behind was never touched.
//
// Invariants
//   1. count <= carved <= capacity. An object is in exactly one place: the caller's hands, a
//      thread's list, this chain, or beyond `carved`.
//   2. Only the thread whose CURRENT slab it is raises `carved` or takes objects out; any thread
//      may put objects in, with one compare-and-swap for a whole chain.
//   3. A slab is on its cache's list iff `listed`, and then its state is PARTIAL. `listed` and the
//      list are guarded by the cache's mutex.
//   4. A Slab record is never unmapped, only reused: `cache` says whose it is now, nullptr between.
// Only one thread takes out, so neither side needs a tag against ABA: a head that the owner still
// finds has not been away.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "slab/base/bits.h"
#include "slab/base/compiler.h"
#include "slab/base/list.h"
#include "slab/base/sole_thread.h"

namespace slabscope {

class KmemCache;

// A free object, in a list.
struct FreeObject {
  FreeObject* next;
};

enum class SlabState : uint16_t { kFull = 0, kPartial = 1, kCurrent = 2 };

// The slab's word, taken apart.
struct SlabWord {
  uint16_t head = 0;
  uint16_t count = 0;
  uint16_t carved = 0;
  SlabState state = SlabState::kFull;

  static SlabWord unpack(uint64_t word) {
    return {static_cast<uint16_t>(word), static_cast<uint16_t>(word >> 16),
            static_cast<uint16_t>(word >> 32), static_cast<SlabState>(word >> 48)};
  }
  constexpr uint64_t pack() const {
    return uint64_t{head} | uint64_t{count} << 16 | uint64_t{carved} << 32 |
           static_cast<uint64_t>(state) << 48;
  }
  // Objects that are neither chained here nor untouched.
  uint32_t out() const { return static_cast<uint32_t>(carved - count); }
};

struct alignas(64) Slab : ListNode {
  std::atomic<uint64_t> word{0};
  std::atomic<KmemCache*> cache{nullptr};
  char* base = nullptr;
  uint32_t* records = nullptr;  // tracked caches: the record number of each object; else nullptr
  uint32_t first_chunk = 0;
  bool listed = false;
  bool counted_empty = false;  // in the cache's empty_count_; guarded like `listed`
  uint32_t idle_since = 0;     // KmemCache::mark_idle() that found it empty; guarded likewise

  SlabWord load() const { return SlabWord::unpack(word.load(std::memory_order_acquire)); }
  bool replace(SlabWord& expected, SlabWord wanted) {
    uint64_t raw = expected.pack();
    if (exchange_if(word, raw, wanted.pack(), std::memory_order_acq_rel))
      return true;
    expected = SlabWord::unpack(raw);
    return false;
  }
};
static_assert(sizeof(Slab) == 64);

// A chain of free objects with both ends and its length.
struct Chain {
  FreeObject* head = nullptr;
  FreeObject* tail = nullptr;
  uint32_t count = 0;

  void push(FreeObject* object) {
    object->next = head;
    if (head == nullptr)
      tail = object;
    head = object;
    ++count;
  }
};

// A new or reused record; nullptr without memory. And its way back. Thread-safe (a leaf lock).
[[nodiscard]] Slab* slab_record_new();
void slab_record_delete(Slab* slab);

void slab_records_lock_for_fork();
void slab_records_unlock_after_fork();
void slab_records_reset_after_fork();

}  // namespace slabscope
