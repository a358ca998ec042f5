// SPDX-License-Identifier: MIT
//
// EventReader: the ring of events of one scope file, read again and again.
//
//   next() ─► `used`: the newest's number ─► slots (number - 1) % limit ─► whole records, in order
//                                             └ overwritten meanwhile: counted as lost
//
// A record counts if two reads of it agree and it has the number that belongs there: the writer
// clears the number first and stores it last. Every byte is hostile: at most one ring is read a
// call.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "exporter/base/result.h"
#include "exporter/source/attach.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

struct HeapEvent {
  uint64_t number = 0;
  abi::EventKind kind = abi::EventKind::kNone;
  uint32_t tid = 0;
  uint64_t monotonic_ns = 0;
  uint64_t realtime_ns = 0;
  uint32_t cache = 0;  // id; 0: none
  uint32_t generation = 0;
  uint64_t value = 0;
  uint64_t other_value = 0;
  std::string name;  // fit to print
};

class EventReader {
 public:
  static Result<EventReader> open(const std::string& path);

  struct Batch {
    std::vector<HeapEvent> events;  // oldest first
    uint64_t lost = 0;              // came and went since the last call
  };
  // What happened since the last call; the first time what the ring holds (and nothing is lost).
  Batch next();

  const TargetInfo& target() const { return scope_.info; }
  // Whether the process still has the file mapped. Ask before next(), to see the last ones too.
  bool alive() const { return scope_.reader.probe_lock() == LockState::kHeld; }

 private:
  explicit EventReader(OpenScope scope) : scope_(std::move(scope)) {}

  OpenScope scope_;
  uint64_t read_ = 0;  // the last number that was dealt with
  bool first_ = true;
};

}  // namespace slabscope
