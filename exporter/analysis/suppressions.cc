// SPDX-License-Identifier: MIT

#include "exporter/analysis/suppressions.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "exporter/base/text.h"
#include "exporter/base/whole_file.h"

namespace slabscope {
namespace {

constexpr std::string_view kBlank = " \t\r";

// What the suppression files of other sanitizers say before the colon.
constexpr std::array kOfOthers = {
    // AddressSanitizer
    std::string_view("interceptor_name"), std::string_view("interceptor_via_fun"),
    std::string_view("interceptor_via_lib"), std::string_view("odr_violation"),
    std::string_view("alloc_dealloc_mismatch"),
    // ThreadSanitizer
    std::string_view("race"), std::string_view("race_top"), std::string_view("mutex"),
    std::string_view("thread"), std::string_view("signal"), std::string_view("deadlock"),
    std::string_view("called_from_lib"),
    // UndefinedBehaviorSanitizer
    std::string_view("undefined"), std::string_view("null"), std::string_view("alignment"),
    std::string_view("bool"), std::string_view("bounds"), std::string_view("enum"),
    std::string_view("builtin"), std::string_view("float-cast-overflow"),
    std::string_view("float-divide-by-zero"), std::string_view("function"),
    std::string_view("implicit-conversion"), std::string_view("implicit-integer-sign-change"),
    std::string_view("implicit-signed-integer-truncation"),
    std::string_view("implicit-unsigned-integer-truncation"),
    std::string_view("integer-divide-by-zero"), std::string_view("nonnull-attribute"),
    std::string_view("nullability-arg"), std::string_view("nullability-assign"),
    std::string_view("nullability-return"), std::string_view("object-size"),
    std::string_view("pointer-overflow"), std::string_view("return"),
    std::string_view("returns-nonnull-attribute"), std::string_view("shift"),
    std::string_view("shift-base"), std::string_view("shift-exponent"),
    std::string_view("signed-integer-overflow"), std::string_view("unreachable"),
    std::string_view("unsigned-integer-overflow"), std::string_view("unsigned-shift-base"),
    std::string_view("vla-bound"), std::string_view("vptr"), std::string_view("vptr_check")};

std::string_view stripped(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlank);
  if (first == text.npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(kBlank) + 1 - first);
}

}  // namespace

bool matches_pattern(std::string_view pattern, std::string_view text) {
  if (text.empty()) {
    return false;
  }
  const bool at_begin = pattern.starts_with('^');
  pattern.remove_prefix(at_begin ? 1 : 0);
  const size_t dollar = pattern.find('$');  // ends the pattern, wherever it is
  const bool at_end = dollar != pattern.npos;
  pattern = pattern.substr(0, dollar);
  size_t from = 0;  // of `text`; what is before is matched
  bool free = !at_begin;
  for (;;) {
    const size_t star = pattern.find('*');
    const std::string_view piece = pattern.substr(0, star);
    const bool last = star == pattern.npos;
    if (last && at_end) {
      const bool fits = text.size() - from >= piece.size() && text.ends_with(piece);
      return fits && (free || from + piece.size() == text.size());
    }
    const size_t found = free                                           ? text.find(piece, from)
                         : text.compare(from, piece.size(), piece) == 0 ? from
                                                                        : text.npos;
    if (found == text.npos) {
      return false;
    }
    if (last) {
      return true;
    }
    from = found + piece.size();
    free = true;
    pattern.remove_prefix(star + 1);
  }
}

std::optional<uint32_t> Suppressions::match(const SymbolFrame& frame) const {
  for (const std::string* name : {&frame.module, &frame.function, &frame.file}) {
    for (uint32_t i = 0; i < patterns.size(); ++i) {
      if (matches_pattern(patterns[i], *name)) {
        return i;
      }
    }
  }
  return std::nullopt;
}

std::optional<Failure> parse_suppressions(std::string_view text, const std::string& name,
                                          Suppressions& suppressions) {
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    const std::string_view line = stripped(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (line.empty() || line.front() == '#') {
      continue;
    }
    const std::string place = printable_utf8(name) + ":" + std::to_string(number);
    const size_t colon = line.find(':');
    const std::string_view kind = line.substr(0, colon);
    const std::string_view pattern = colon == line.npos ? "" : line.substr(colon + 1);
    if (kind == "leak" && !pattern.empty()) {
      suppressions.patterns.emplace_back(pattern);
    } else if (colon != line.npos &&
               std::find(kOfOthers.begin(), kOfOthers.end(), kind) != kOfOthers.end()) {
      suppressions.warnings.push_back(place + ": '" + std::string(kind) +
                                      ":' is for another sanitizer and was passed over");
    } else {
      return Failure{ErrorCode::kCorrupt, place + ": '" + printable_utf8(std::string(line)) +
                                              "' is no suppression; write leak:PATTERN"};
    }
  }
  return std::nullopt;
}

Result<Suppressions> read_suppressions(const std::vector<std::string>& files) {
  Suppressions suppressions;
  for (const std::string& name : files) {
    const std::optional<std::string> text = read_whole_file(name);
    if (!text) {
      return Failure{ErrorCode::kUnreadable, "cannot read suppressions from " +
                                                 printable_utf8(name) + ": " +
                                                 std::generic_category().message(errno)};
    }
    if (const auto wrong = parse_suppressions(*text, name, suppressions)) {
      return *wrong;
    }
  }
  return suppressions;
}

}  // namespace slabscope
