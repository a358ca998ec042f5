// SPDX-License-Identifier: MIT

#include "exporter/output/report_options.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace slabscope {
namespace {

using Clock = std::chrono::steady_clock;

bool g_progress_shown = false;

size_t width_of(int fd) {
  winsize size{};
  constexpr size_t kPlain = 100;
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col != 0 ? size.ws_col : kPlain;
}

void show_progress(size_t done, size_t total) {
  std::fprintf(stderr, "\r\033[Kslabscope: naming stacks: %zu of %zu", done, total);
  g_progress_shown = true;
}

}  // namespace

ReportOptions report_options_for(int fd) {
  ReportOptions options;
  const bool terminal = isatty(fd) != 0;
  const char* no_color = std::getenv("NO_COLOR");
  options.color = terminal && (no_color == nullptr || no_color[0] == '\0');
  options.width = width_of(fd);
  std::error_code error;
  options.source_root = std::filesystem::current_path(error).string();
  if (isatty(STDERR_FILENO) != 0) {
    options.progress = [start = Clock::now(), last = Clock::time_point()](size_t done,
                                                                          size_t total) mutable {
      const Clock::time_point now = Clock::now();
      if (now - start > std::chrono::seconds(1) && now - last > std::chrono::milliseconds(200)) {
        last = now;
        show_progress(done, total);
      }
    };
  }
  return options;
}

void end_progress() {
  if (g_progress_shown) {
    std::fputs("\r\033[K", stderr);
    g_progress_shown = false;
  }
}

}  // namespace slabscope
