// SPDX-License-Identifier: MIT
//
// Result: a value, or the reason why there is none.
//
// Failures travel as values up to the command that prints them; every message is one line and says
// what the user can do about it.

#pragma once

#include <string>
#include <utility>
#include <variant>

namespace slabscope {

enum class ErrorCode {
  kNotFound,         // no such file, no such target
  kAmbiguous,        // a name that several targets bear
  kUnreadable,       // no permission, or an I/O error
  kNotReady,         // a scope file that its process is still setting up
  kBadMagic,         // not a scope file
  kVersionMismatch,  // written by a shim of another layout
  kTruncated,        // shorter than its header says
  kCorrupt,          // sections that contradict the layout
  kSystem,           // a system call that failed for a reason of its own
};

struct Failure {
  ErrorCode code = ErrorCode::kSystem;
  std::string message;  // one line, no "slabscope: " prefix, no full stop
};

template <typename T>
class [[nodiscard]] Result {
 public:
  // NOLINTBEGIN(google-explicit-constructor): `return value;` and `return Failure{...};` are the
  // point.
  Result(T value) : held_(std::move(value)) {}
  Result(Failure failure) : held_(std::move(failure)) {}
  // NOLINTEND(google-explicit-constructor)

  bool ok() const { return std::holds_alternative<T>(held_); }
  explicit operator bool() const { return ok(); }

  T& value() { return std::get<T>(held_); }
  const T& value() const { return std::get<T>(held_); }
  T* operator->() { return &std::get<T>(held_); }
  const T* operator->() const { return &std::get<T>(held_); }
  T& operator*() { return std::get<T>(held_); }
  const T& operator*() const { return std::get<T>(held_); }

  const Failure& failure() const { return std::get<Failure>(held_); }

 private:
  std::variant<T, Failure> held_;
};

}  // namespace slabscope
