// SPDX-License-Identifier: MIT

#include "exporter/output/function_name.h"

#include <cctype>

#include "exporter/base/text.h"

namespace slabscope {
namespace {

constexpr std::string_view kOperator = "operator";

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// The length of an operator's name at `at` ("operator<", "operator()"), whose brackets are no
// brackets; 0 elsewhere.
size_t operator_length(std::string_view name, size_t at) {
  if (name.substr(at, kOperator.size()) != kOperator || (at > 0 && is_word(name[at - 1]))) {
    return 0;
  }
  const std::string_view rest = name.substr(at + kOperator.size());
  for (const std::string_view symbol :
       {"()", "<=>", "<<=", ">>=", "<<", ">>", "<=", ">=", "->*", "->", "<", ">"}) {
    if (rest.starts_with(symbol)) {
      return kOperator.size() + symbol.size();
    }
  }
  return 0;
}

// The text with what lies between outermost `open` and `close` replaced by `filler`.
std::string hollow(std::string_view name, char open, char close, std::string_view filler) {
  std::string text;
  size_t depth = 0;
  for (size_t i = 0; i < name.size();) {
    if (const size_t length = operator_length(name, i); length != 0) {
      text += depth == 0 ? name.substr(i, length) : "";
      i += length;
      continue;
    }
    const char c = name[i++];
    if (c == open && depth++ == 0) {
      text += c;
      text += i < name.size() && name[i] != close ? filler : "";
    } else if (depth == 0 || (c == close && --depth == 0)) {
      text += c;
    }
  }
  return text;
}

// "(anonymous namespace)" is a name, not a parameter list.
std::string without_parameters(std::string_view name) {
  constexpr std::string_view kLong = "(anonymous namespace)";
  constexpr std::string_view kShort = "{anonymous}";
  std::string text(name);
  for (size_t at = 0; (at = text.find(kLong, at)) != std::string::npos;) {
    text.replace(at, kLong.size(), kShort);
  }
  return hollow(text, '(', ')', "...");
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

// Cuts each ", PREFIX<…>" that repeats what is the default anyway.
void drop_argument(std::string& text, std::string_view prefix) {
  for (size_t at = 0; (at = text.find(prefix, at)) != std::string::npos;) {
    size_t depth = 1;
    size_t end = at + prefix.size();
    for (; end < text.size() && depth > 0; ++end) {
      depth += text[end] == '<' ? 1 : 0;
      depth -= text[end] == '>' ? 1 : 0;
    }
    if (depth > 0) {
      return;
    }
    text.erase(at, end - at);
  }
}

std::string usual_form(std::string_view name) {
  std::string text(name);
  replace_all(text,
              "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >",
              "std::string");
  replace_all(text, "std::__cxx11::", "std::");
  for (const std::string_view prefix :
       {", std::allocator<", ", std::char_traits<", ", std::less<", ", std::hash<",
        ", std::equal_to<", ", std::default_delete<"}) {
    drop_argument(text, prefix);
  }
  replace_all(text, " >", ">");
  return text;
}

// Function templates are mangled with their return type: "void f<int>(int)".
std::string without_return_type(std::string text) {
  size_t depth = 0;
  size_t start = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, kOperator.size(), kOperator) == 0 || (text[i] == '(' && i > start)) {
      break;  // the name itself may have spaces, and so may the parameters
    }
    depth += text[i] == '<' || text[i] == '(' ? 1 : 0;
    depth -= (text[i] == '>' || text[i] == ')') && depth > 0 ? 1 : 0;
    start = text[i] == ' ' && depth == 0 ? i + 1 : start;
  }
  return text.substr(start);
}

}  // namespace

std::string short_function_name(std::string_view name, size_t limit) {
  std::string text = without_return_type(usual_form(name));
  if (display_width(text) > limit) {
    text = without_parameters(text);
  }
  if (display_width(text) > limit) {
    text = hollow(text, '<', '>', "");
  }
  if (display_width(text) > limit && limit > 8) {
    // Cut between characters, never inside one.
    size_t head = limit / 2;
    size_t tail = text.size() - (limit - head - 3);
    while (head > 0 && (static_cast<unsigned char>(text[head]) & 0xc0) == 0x80) {
      --head;
    }
    while (tail < text.size() && (static_cast<unsigned char>(text[tail]) & 0xc0) == 0x80) {
      ++tail;
    }
    text = text.substr(0, head) + "..." + text.substr(tail);
  }
  return text;
}

}  // namespace slabscope
