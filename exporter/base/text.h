// SPDX-License-Identifier: MIT
//
// text: bytes made fit for people, terminals and label values.
//
// Everything that came from a scope file or from /proc passes through printable_utf8() once, where
// it becomes a string of the Snapshot (names) or where it is printed (paths). One invalid byte in
// one label would make Prometheus drop a whole scrape; one escape sequence in a process name would
// reach the terminal.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace slabscope {

// Valid UTF-8 without control characters: what is not is replaced by U+FFFD.
std::string printable_utf8(std::string_view bytes);

// As many display cells as a terminal needs, for text that printable_utf8() made (a code point
// each).
size_t display_width(std::string_view text);

// 0 -> "0", 1536 -> "1.5K", 5 << 30 -> "5.0G"; powers of 1024, at most 5 characters; no locale.
std::string human_bytes(uint64_t bytes);

// 90 s -> "1m30s"; the two largest units.
std::string human_duration(uint64_t seconds);

// The text up to the next `separator`, which is taken off `rest` together with it.
std::string_view next_field(std::string_view& rest, char separator);

// "/usr/lib/libc.so.6" -> "libc.so.6".
std::string_view base_name(std::string_view path);

// "&", "<", ">", quotes as entities, after printable_utf8().
std::string html_escape(std::string_view bytes);

}  // namespace slabscope
