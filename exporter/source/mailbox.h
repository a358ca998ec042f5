// SPDX-License-Identifier: MIT
//
// mailbox: asks a living process for something, through its scope file.
//
//   lock the mailbox's bytes ─► check, action, argument ─► sequence ─► wait for the reply
//
// The process looks when one of its threads next passes the allocator's slow path; one that does
// not allocate does not look, and then the request waits for it. This is the only place in the
// tools that writes into a scope file.

#pragma once

#include <chrono>
#include <cstdint>

#include "diag/abi/layout.h"
#include "exporter/base/result.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

struct RequestOutcome {
  enum class State : uint8_t {
    kDone,
    kRefused,
    kPending,  // nobody looked yet; it stays in the mailbox
  };
  State state = State::kPending;
  uint64_t value = 0;     // of abi::Reply
  bool replaced = false;  // an earlier request was still waiting, and is forgotten
};

Result<RequestOutcome> ask_target(const TargetInfo& target, abi::Action action, uint64_t argument,
                                  std::chrono::milliseconds timeout);

}  // namespace slabscope
