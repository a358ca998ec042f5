// SPDX-License-Identifier: MIT

#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include <memory>
#include <ostream>
#include <vector>

#include "exporter/commands/commands.h"
#include "exporter/output/json.h"

namespace slabscope {
namespace {

constexpr const char* kOptionsHelp = R"(
The environment variables that libslabscope.so reads when a program starts. Set-uid programs
ignore them; an unknown or malformed one is reported once and ignored.

Example:
  SLABSCOPE_TRACK=all SLABSCOPE_REPORT=leaks.%p.txt LD_PRELOAD=libslabscope.so ./server
)";

struct Option {
  const char* name;
  const char* default_text;
  const char* help;
};

constexpr Option kOptions[] = {
#define OPTION(env_name, field, type, default_text, help) {env_name, default_text, help},
#include "preload/options.def"
#undef OPTION
};

// `text` in lines of at most `width` characters, each behind `indent` spaces.
std::string wrapped(const std::string& text, size_t width, size_t indent) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.size() - at <= width ? text.size() : text.rfind(' ', at + width);
    if (end == std::string::npos || end <= at) {
      end = std::min(at + width, text.size());
    }
    out += std::string(indent, ' ') + text.substr(at, end - at) + "\n";
    at = end < text.size() && text[end] == ' ' ? end + 1 : end;
  }
  return out;
}

}  // namespace

void add_options(CLI::App& app, CommandContext& context) {
  auto* command = app.add_subcommand("options", "The environment variables of libslabscope.so");
  command->footer(kOptionsHelp);
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "Print one JSON object instead of a list");
  command->callback([json, &context] {
    if (*json) {
      nlohmann::ordered_json all = {{"schema", 1}, {"options", nlohmann::ordered_json::array()}};
      for (const Option& option : kOptions) {
        all["options"].push_back(
            {{"name", option.name}, {"default", option.default_text}, {"help", option.help}});
      }
      context.out << dump(all);
      return;
    }
    for (const Option& option : kOptions) {
      context.out << option.name
                  << "  (default: " << (*option.default_text == '\0' ? "none" : option.default_text)
                  << ")\n"
                  << wrapped(option.help, 90, 4);
    }
  });
}

}  // namespace slabscope
