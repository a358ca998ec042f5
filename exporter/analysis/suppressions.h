// SPDX-License-Identifier: MIT
//
// Suppressions: leaks that somebody knows of and does not want to hear about, in LeakSanitizer's
// format.
//
//   file: lines `leak:PATTERN`, `# comment`, blank ─► read_suppressions() ─► match(frame)
//
// A pattern matches a frame if it is found in the name of its module, function or file. `*` stands
// for anything, `^` at its begin and `$` at its end tie it to the name's; an empty name matches
// nothing. Lines for other sanitizers are passed over with a warning, as one file may serve
// several; any other line is an error.
// Called from: commands, output/report_entries.cc.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "exporter/analysis/symbolize.h"
#include "exporter/base/result.h"

namespace slabscope {

// Whether `pattern` is found in `text`, as said above.
[[nodiscard]] bool matches_pattern(std::string_view pattern, std::string_view text);

struct Suppressions {
  std::vector<std::string> patterns;  // in the order of the files
  std::vector<std::string> warnings;  // "FILE:LINE: …"

  // The number of the first pattern that matches.
  [[nodiscard]] std::optional<uint32_t> match(const SymbolFrame& frame) const;
};

// Adds what `text` says; `name` is the file's, for messages. What is wrong with it, if anything.
[[nodiscard]] std::optional<Failure> parse_suppressions(std::string_view text,
                                                        const std::string& name,
                                                        Suppressions& suppressions);
[[nodiscard]] Result<Suppressions> read_suppressions(const std::vector<std::string>& files);

}  // namespace slabscope
