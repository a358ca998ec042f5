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

}  // namespace

void* meta_allocate(size_t bytes) {
  bytes = align_up(bytes, 64);
  MutexLock lock(g_meta_mutex);
  if (bytes > g_meta_left) {
    const size_t block = align_up(bytes > kBlock ? bytes : kBlock, vm::kOsPage);
    void* memory = vm::map(block);
    if (memory == nullptr)
      return nullptr;
    __atomic_fetch_add(&g_meta_mapped, block, __ATOMIC_RELAXED);
    if (block - bytes < g_meta_left)
      return memory;  // a big one: keep carving the old block
    g_meta_next = static_cast<char*>(memory);
    g_meta_left = block;
  }
  void* result = g_meta_next;
  g_meta_next += bytes;
  g_meta_left -= bytes;
  return result;
}

size_t meta_mapped_bytes() {
  return __atomic_load_n(&g_meta_mapped, __ATOMIC_RELAXED);
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
