// SPDX-License-Identifier: MIT
//
// Debuginfod: debug files by build-id, from the servers that DEBUGINFOD_URLS names.
//
// Only for who asked for it (--debuginfod): a look at a process tells a server which builds run
// here, and may wait for it. The library is elfutils' own, which keeps what it fetched in the
// user's cache; it is loaded here and not linked, as most hosts do not have it. What comes is a
// file like any other: its build-id is checked by who opens it.
// Called from: commands/stack_options.cc, which loads it; module_files.cc, which asks.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace slabscope {

class Debuginfod {
 public:
  // Null if the library is not installed.
  static std::unique_ptr<Debuginfod> load();
  // Whether there are servers to ask.
  static bool has_servers();

  ~Debuginfod();
  Debuginfod(const Debuginfod&) = delete;
  Debuginfod& operator=(const Debuginfod&) = delete;

  // The path of a file with the debug information of that build, "" if no server has one.
  [[nodiscard]] std::string find(const std::vector<uint8_t>& build_id) const;

 private:
  Debuginfod() = default;
  struct Functions;
  std::unique_ptr<Functions> functions_;
};

}  // namespace slabscope
