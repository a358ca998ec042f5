// SPDX-License-Identifier: MIT

#include "slab/pages/meta.h"

#include <cstdint>

#include "slab/base/bits.h"
#include "slab/base/mutex.h"
#include "slab/pages/vm.h"

namespace slabscope {
namespace {

constexpr size_t kBlock = 256 << 10;  // address space only: its pages are touched as they are used

constinit Mutex g_meta_mutex;
constinit char* g_meta_next SC_GUARDED_BY(g_meta_mutex) = nullptr;
constinit size_t g_meta_left SC_GUARDED_BY(g_meta_mutex) = 0;
constinit size_t g_meta_mapped = 0;
constinit MetaBlock* g_meta_newest = nullptr;

}  // namespace

void* meta_allocate(size_t bytes) {
  bytes = align_up(bytes, 64);
  MutexLock lock(g_meta_mutex);
  if (bytes > g_meta_left) {
    const size_t needed = bytes + sizeof(MetaBlock);
    const size_t block = align_up(needed > kBlock ? needed : kBlock, vm::kOsPage);
    void* memory = vm::map(block);
    if (memory == nullptr)
      return nullptr;
    __atomic_fetch_add(&g_meta_mapped, block, __ATOMIC_RELAXED);
    auto* head = static_cast<MetaBlock*>(memory);
    head->bytes = block;
    head->next = g_meta_newest;
    __atomic_store_n(&g_meta_newest, head, __ATOMIC_RELEASE);
    if (block - needed < g_meta_left)
      return head + 1;  // a big one: keep carving the old block
    g_meta_next = reinterpret_cast<char*>(head + 1);
    g_meta_left = block - sizeof(MetaBlock);
  }
  void* result = g_meta_next;
  g_meta_next += bytes;
  g_meta_left -= bytes;
  return result;
}

size_t meta_mapped_bytes() {
  return __atomic_load_n(&g_meta_mapped, __ATOMIC_RELAXED);
}

MetaBlock* const* meta_newest_block() {
  return &g_meta_newest;
}

void meta_lock_for_fork() SC_NO_THREAD_ANALYSIS {
  g_meta_mutex.lock();
}
void meta_unlock_after_fork() SC_NO_THREAD_ANALYSIS {
  g_meta_mutex.unlock();
}
void meta_reset_after_fork() {
  g_meta_mutex.reset_after_fork();
}

}  // namespace slabscope
