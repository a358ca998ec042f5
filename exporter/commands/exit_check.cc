// SPDX-License-Identifier: MIT

#include "exporter/commands/exit_check.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstddef>

#include "exporter/source/attach.h"
#include "exporter/source/process_snapshot.h"
#include "exporter/source/targets.h"

namespace slabscope {
namespace {

constexpr unsigned kPollsBetweenLooks = 25;  // for a new file, after exec
constexpr off_t kPhaseOffset = offsetof(abi::Header, exit_phase);

uint32_t number(abi::ExitPhase phase) {
  return static_cast<uint32_t>(phase);
}

}  // namespace

ExitCheck::~ExitCheck() {
  close_file();
}

void ExitCheck::close_file() {
  if (fd_ >= 0) {
    close(fd_);
  }
  fd_ = -1;
}

// The program that had the file mapped is gone, perhaps for another.
bool ExitCheck::file_is_abandoned() const {
  if (flock(fd_, LOCK_SH | LOCK_NB) != 0) {
    return false;
  }
  flock(fd_, LOCK_UN);
  return true;
}

void ExitCheck::find_file() {
  const Result<TargetInfo> target = newest_of_pid(static_cast<uint32_t>(child_), started_ns_);
  if (target && target->state == TargetState::kRunning) {
    fd_ = open(target->path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    path_ = target->path;
  }
}

void ExitCheck::write_phase(uint32_t phase) const {
  [[maybe_unused]] const ssize_t written = pwrite(fd_, &phase, sizeof(phase), kPhaseOffset);
}

void ExitCheck::poll() {
  ++polls_;
  if (fd_ >= 0 && polls_ % kPollsBetweenLooks == 0 && file_is_abandoned()) {
    close_file();
  }
  if (fd_ < 0) {
    // Often at first; a program that never allocates must not cost a look around every time.
    if (polls_ > 2 * kPollsBetweenLooks && polls_ % kPollsBetweenLooks != 0) {
      return;
    }
    find_file();
  }
  uint32_t phase = 0;
  if (fd_ < 0 || pread(fd_, &phase, sizeof(phase), kPhaseOffset) != sizeof(phase) ||
      phase != number(abi::ExitPhase::kWaiting)) {
    return;
  }
  write_phase(number(abi::ExitPhase::kLooking));
  check();
  write_phase(number(abi::ExitPhase::kReleased));
}

void ExitCheck::check() {
  LeakCheck& result = result_.emplace();
  const Result<TargetInfo> target = attach_info(path_);
  if (!target) {
    result.refused = target.failure().message;
    return;
  }
  Result<std::unique_ptr<ProcessSnapshot>> memory =
      ProcessSnapshot::take(*target, ExitStatus::kOurs);
  if (!memory) {
    result.refused = memory.failure().message;
    return;
  }
  const Result<Snapshot> snapshot = attach(path_, Include::kEverything);
  Result<LeakCheck> found =
      snapshot ? check_leaks(**memory, *snapshot, roots_) : Result<LeakCheck>(snapshot.failure());
  (*memory)->release();
  if (!found) {
    result.refused = found.failure().message;
    return;
  }
  result = std::move(*found);
  result.pause = (*memory)->pause();
}

}  // namespace slabscope
