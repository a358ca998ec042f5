// SPDX-License-Identifier: MIT
//
// CacheGuard: the thread cache that a slow path may work with, for as long as the guard lives.
//
//   the thread's own, if it has or can have one ─► no lock
//   else the orphans' ─► ThreadRegistry::orphan_mutex_ until the guard goes
//
// False if there is neither: no memory.

#pragma once

#include "slab/base/compiler.h"
#include "slab/cache/thread_registry.h"

namespace slabscope {

class CacheGuard {
 public:
  CacheGuard() : cache_(g_threads.current_or_start()) {
    if (SC_UNLIKELY(cache_ == nullptr)) {
      cache_ = g_threads.lock_orphans();
      orphan_ = cache_ != nullptr;
    }
  }
  ~CacheGuard() {
    if (SC_UNLIKELY(orphan_))
      g_threads.unlock_orphans();
  }
  CacheGuard(const CacheGuard&) = delete;
  CacheGuard& operator=(const CacheGuard&) = delete;
  ThreadCache* operator->() const { return cache_; }
  ThreadCache* get() const { return cache_; }
  explicit operator bool() const { return cache_ != nullptr; }

 private:
  ThreadCache* cache_;
  bool orphan_ = false;
};

}  // namespace slabscope
