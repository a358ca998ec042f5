// SPDX-License-Identifier: MIT
#include "bench/support/bench.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <string_view>

namespace slabscope::bench {
namespace {

double seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The file that serves malloc, so that a preload which did not take is noticed.
const char* malloc_provider() {
  Dl_info info{};
  if (dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) == 0 || info.dli_fname == nullptr)
    return "unknown";
  const char* slash = std::strrchr(info.dli_fname, '/');
  return slash != nullptr ? slash + 1 : info.dli_fname;
}

std::uint64_t parse(const std::string& name, const std::string& text) {
  char* end = nullptr;
  const std::uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0')
    die(("--" + name + " wants a number, not '" + text + "'").c_str());
  return value;
}

}  // namespace

void die(const char* message) {
  static_cast<void>(std::fprintf(stderr, "bench: %s\n", message));
  std::_Exit(1);  // other threads may be running
}

Arguments::Arguments(int argc, char** argv, const char* question) : question_(question) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help") {
      help_wanted_ = true;
    } else if (argument == "--smoke") {
      smoke_ = true;
    } else if (argument.starts_with("--") && i + 1 < argc) {
      given_.push_back({std::string(argument.substr(2)), argv[i + 1], false});
      ++i;
    } else {
      die(("unexpected argument '" + std::string(argument) + "'; --help lists what there is")
              .c_str());
    }
  }
  seed_ = number("seed", 1, 1, "what the random sizes and orders start from");
}

const std::string* Arguments::find(const char* name) {
  for (Given& given : given_) {
    if (given.name == name) {
      given.known = true;
      return &given.value;
    }
  }
  return nullptr;
}

std::uint64_t Arguments::number(const char* name, std::uint64_t full, std::uint64_t smoke,
                                const char* help) {
  const std::string* value = find(name);
  help_ += "  --" + std::string(name) + " N  " + help + " (" + std::to_string(full) + ")\n";
  if (value != nullptr)
    return parse(name, *value);
  return smoke_ ? smoke : full;
}

std::string Arguments::word(const char* name, const char* usual, const char* help) {
  const std::string* value = find(name);
  help_ += "  --" + std::string(name) + " WORD  " + help + " (" + usual + ")\n";
  return value != nullptr ? *value : usual;
}

void Arguments::check() const {
  if (help_wanted_) {
    std::printf("%s\n\n  --smoke  a fraction of a second, to see that it works\n%s", question_,
                help_.c_str());
    std::exit(0);
  }
  for (const Given& given : given_) {
    if (!given.known)
      die(("unknown option --" + given.name + "; --help lists what there is").c_str());
  }
}

std::uint64_t resident_kib() {
  char text[128];
  const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return 0;
  const ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0)
    return 0;
  text[length] = '\0';
  const char* second = std::strchr(text, ' ');
  const std::uint64_t pages = second != nullptr ? std::strtoull(second, nullptr, 10) : 0;
  return pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) / 1024;
}

void idle(std::uint64_t milliseconds, Random& random) {
  constexpr std::uint64_t kStepMs = 10;
  constexpr int kBlocks = 40;
  const timespec step{0, kStepMs * 1'000'000};
  for (std::uint64_t slept = 0; slept < milliseconds; slept += kStepMs) {
    nanosleep(&step, nullptr);
    for (int i = 0; i < kBlocks; ++i) {
      void* block = stamped_malloc(skewed_size(random), 0);
      keep(block);
      std::free(block);
    }
  }
}

Run::Run(const char* bench)
    : bench_(bench),
      started_wall_(seconds(CLOCK_MONOTONIC)),
      started_cpu_(seconds(CLOCK_PROCESS_CPUTIME_ID)) {}

int Run::finish(std::uint64_t ops, std::uint64_t checksum, std::initializer_list<Extra> extra) {
  const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - started_cpu_;
  const double wall = seconds(CLOCK_MONOTONIC) - started_wall_;
  std::printf("{\"bench\": \"%s\", \"ops\": %" PRIu64
              ", \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"malloc\": \"%s\"",
              bench_, ops, wall, cpu, malloc_provider());
  for (const Extra& item : extra)
    std::printf(", \"%s\": %" PRIu64, item.name, item.value);
  std::printf(", \"checksum\": \"%016" PRIx64 "\"}\n", checksum);
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace slabscope::bench
