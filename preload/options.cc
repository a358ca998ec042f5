// SPDX-License-Identifier: MIT

#include "preload/options.h"

#include <unistd.h>

#include "slab/base/panic.h"
#include "slab/base/sys.h"
#include "slab/cache/debug_spec.h"

namespace slabscope {
namespace {

constexpr char kPrefix[] = "SLABSCOPE_";

// What follows `prefix` in `text`, or nullptr.
const char* after(const char* text, const char* prefix) {
  while (*prefix != '\0') {
    if (*text++ != *prefix++)
      return nullptr;
  }
  return text;
}

bool equal(const char* a, const char* b) {
  const char* rest = after(a, b);
  return rest != nullptr && *rest == '\0';
}

// A decimal number of at most `most`; false if `text` is anything else.
bool parse_number(const char* text, uint64_t most, uint64_t& value) {
  if (*text == '\0')
    return false;
  uint64_t result = 0;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9')
      return false;
    result = result * 10 + static_cast<uint64_t>(*text - '0');
    if (result > most)
      return false;
  }
  value = result;
  return true;
}

SC_COLD void complain(const char* entry, const char* what) {
  Line line;
  line.text("slabscope: ").text(entry, 100).text(": ").text(what).text("\n");
  sys::write_all(STDERR_FILENO, line.data(), line.size());
}

// ---- one parser a type of options.def -------------------------------------------------------

const char* parse_track(const char* value, Options& options) {
  const char* interval = after(value, "sampled:");
  uint64_t bytes = 0;
  if (equal(value, "off")) {
    options.track = abi::TrackMode::kOff;
  } else if (equal(value, "all")) {
    options.track = abi::TrackMode::kAll;
  } else if (equal(value, "sampled")) {
    options.track = abi::TrackMode::kSampled;
  } else if (interval != nullptr && parse_number(interval, UINT32_MAX, bytes) && bytes > 1) {
    options.track = abi::TrackMode::kSampled;
    options.sample_interval = static_cast<uint32_t>(bytes);
  } else {
    return "not one of off, sampled, sampled:BYTES (2 to 4294967295), all; ignored";
  }
  options.track_named = true;
  return nullptr;
}

const char* parse_ms(const char* value, uint32_t& result) {
  uint64_t ms = 0;
  if (!parse_number(value, INT32_MAX, ms))
    return "not a number of milliseconds; ignored";
  result = static_cast<uint32_t>(ms);
  return nullptr;
}

const char* parse_decay_ms(const char* value, Options& options) {
  return parse_ms(value, options.decay_ms);
}

const char* parse_release_delay_ms(const char* value, Options& options) {
  return parse_ms(value, options.release_delay_ms);
}

const char* parse_debug(const char* value, Options& options) {
  options.debug = value;
  return debug_spec_problem(value);
}

const char* parse_group_by(const char* value, Options& options) {
  if (equal(value, "thread")) {
    options.group_by = GroupBy::kThread;
  } else if (equal(value, "none")) {
    options.group_by = GroupBy::kNone;
  } else {
    return "not one of none, thread; ignored";
  }
  return nullptr;
}

const char* parse_watcher(const char* value, Options& options) {
  uint64_t pid = 0;
  if (!parse_number(value, INT32_MAX, pid))
    return "not a pid; ignored";
  options.watcher = static_cast<uint32_t>(pid);
  return nullptr;
}

const char* parse_report(const char* value, Options& options) {
  size_t length = 0;
  while (value[length] != '\0')
    ++length;
  if (length == 0 || length >= sizeof(options.report)) {
    return "not auto, off, stderr or a file name of up to 255 bytes; ignored";
  }
  for (size_t i = 0; i <= length; ++i)
    options.report[i] = value[i];
  return nullptr;
}

const char* parse_dir(const char* value, Options& options) {
  if (*value != '/')
    return "not an absolute directory; ignored";
  options.dir = value;
  return nullptr;
}

const char* parse_app(const char* value, Options& options) {
  options.app = *value == '\0' ? nullptr : value;
  return nullptr;
}

// Names that begin with our prefix but are read by the slabscope program, not by the shim.
bool is_of_the_tools(const char* entry) {
  return after(entry, "SLABSCOPE_LIB=") != nullptr;
}

void parse_entry(const char* entry, Options& options) {
#define OPTION(name, field, type, default_text, help)                 \
  if (const char* value = after(entry, name "="); value != nullptr) { \
    const char* problem = parse_##field(value, options);              \
    if (problem != nullptr)                                           \
      complain(entry, problem);                                       \
    return;                                                           \
  }
#include "preload/options.def"
#undef OPTION
  if (!is_of_the_tools(entry)) {
    complain(entry, "unknown option, ignored; `slabscope options` lists them");
  }
}

}  // namespace

void parse_options(const char* const* environment, Options& options) {
  if (environment == nullptr)
    return;
  for (; *environment != nullptr; ++environment) {
    if (after(*environment, kPrefix) != nullptr)
      parse_entry(*environment, options);
    const char* xdg = after(*environment, "XDG_RUNTIME_DIR=");
    if (xdg != nullptr && *xdg == '/')
      options.xdg_runtime_dir = xdg;
  }
}

}  // namespace slabscope
