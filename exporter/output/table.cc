// SPDX-License-Identifier: MIT

#include "exporter/output/table.h"

#include <algorithm>
#include <ostream>

#include "exporter/base/text.h"

namespace slabscope {
namespace {

constexpr size_t kGap = 2;

std::string padded(const std::string& text, size_t width, Align align, bool last) {
  const size_t used = display_width(text);
  const std::string space(used < width ? width - used : 0, ' ');
  if (align == Align::kRight) {
    return space + text;
  }
  return last ? text : text + space;
}

}  // namespace

void Table::print(std::ostream& out, Color color) const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) {
    widths.push_back(display_width(column.head));
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], display_width(row[i]));
    }
  }
  const auto line = [&](const auto& cell_at) {
    std::string text;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string gap(i == 0 ? 0 : kGap, ' ');
      text += gap + padded(cell_at(i), widths[i], columns_[i].align, i + 1 == columns_.size());
    }
    return text;
  };
  const std::string head = line([&](size_t i) { return columns_[i].head; });
  out << (color == Color::kTerminal ? "\033[1m" + head + "\033[0m" : head) << '\n';
  for (const auto& row : rows_) {
    out << line([&](size_t i) { return row[i]; }) << '\n';
  }
}

}  // namespace slabscope
