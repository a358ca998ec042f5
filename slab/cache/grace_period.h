// SPDX-License-Identifier: MIT
//
// GracePeriod: how to wait for a program's RCU readers, through its own liburcu flavour.
//
// RcuFlavor is liburcu's struct rcu_flavor_struct as far as it is needed: a table of functions that
// the program passes by address, so neither side links the other. tests/slab/cache/
// grace_period_test.cc compares it with <urcu/flavor.h>.

#pragma once

#include "slab/base/compiler.h"

namespace slabscope {

struct RcuFlavor {
  void (*read_lock)();
  void (*read_unlock)();
  int (*read_ongoing)();
  void (*read_quiescent_state)();
  void (*update_call_rcu)();  // these two take arguments; they are not called
  void (*update_synchronize_rcu)();
  void (*update_defer_rcu)();
  void (*thread_offline)();
  void (*thread_online)();
  void (*register_thread)();
  void (*unregister_thread)();
  void (*barrier)();
};

struct GracePeriod {
  void (*synchronize)() = nullptr;  // nullptr: the cache has no readers to wait for
  void (*barrier)() = nullptr;      // may be nullptr

  // Until readers that are inside now have left. Without a lock, and never by a reader.
  void wait() const { synchronize(); }
  // Until what the program has handed to call_rcu() is done: frees of objects may be among it.
  void flush_callbacks() const {
    if (barrier != nullptr)
      barrier();
  }
};

}  // namespace slabscope
