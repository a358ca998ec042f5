// SPDX-License-Identifier: MIT
//
// ActiveCount: who is at work on something that another thread may take away.
//
//   enter() ─► true: it stays until leave()          remove_and_wait() ─► new enter()s fail;
//           └► false: it was removed                                      returns when all left
//
// One word: the highest bit says "removed", the others count who is inside. No lock is taken, so
// nothing that an insider may need is held here; the remover must hold none either.

#pragma once

#include <atomic>
#include <cstdint>

#include "slab/base/compiler.h"

namespace slabscope {

class ActiveCount {
 public:
  constexpr ActiveCount() = default;

  // Before, and after a removal, nobody may enter.
  void open() { word_.store(0, std::memory_order_release); }
  [[nodiscard]] bool enter();
  void leave();
  // Not from inside: it would wait for itself.
  void remove_and_wait();
  uint32_t inside() const { return word_.load(std::memory_order_relaxed) & ~kRemoved; }
  // In the child of a fork, where those who were inside do not exist.
  void reset_after_fork();

 private:
  static constexpr uint32_t kRemoved = 1U << 31;

  std::atomic<uint32_t> word_{kRemoved};
};

}  // namespace slabscope
