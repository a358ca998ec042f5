// SPDX-License-Identifier: MIT
//
// Table: columns that line up on a terminal, and stay parsable in a pipe.

#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace slabscope {

enum class Align { kLeft, kRight };
enum class Color { kNever, kTerminal };  // kTerminal: bold heads

struct Column {
  std::string head;
  Align align = Align::kRight;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add_row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }

  // Cells must be printable_utf8(). Nothing is cut; the last column is not padded.
  void print(std::ostream& out, Color color) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace slabscope
