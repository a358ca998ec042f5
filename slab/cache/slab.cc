// SPDX-License-Identifier: MIT

#include "slab/cache/slab.h"

#include <new>

#include "slab/base/mutex.h"
#include "slab/pages/meta.h"

namespace slabscope {
namespace {

constinit Mutex g_records_mutex;
constinit List<Slab> g_unused SC_GUARDED_BY(g_records_mutex);

}  // namespace

Slab* slab_record_new() {
  {
    MutexLock lock(g_records_mutex);
    Slab* slab = g_unused.pop_front();
    if (slab != nullptr)
      return slab;
  }
  void* memory = meta_allocate(sizeof(Slab));
  return memory == nullptr ? nullptr : new (memory) Slab;
}

void slab_record_delete(Slab* slab) {
  MutexLock lock(g_records_mutex);
  g_unused.push_front(slab);
}

void slab_records_lock_for_fork() SC_NO_THREAD_ANALYSIS {
  g_records_mutex.lock();
}
void slab_records_unlock_after_fork() SC_NO_THREAD_ANALYSIS {
  g_records_mutex.unlock();
}
void slab_records_reset_after_fork() {
  g_records_mutex.reset_after_fork();
}

}  // namespace slabscope
