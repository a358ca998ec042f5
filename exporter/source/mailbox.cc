// SPDX-License-Identifier: MIT

#include "exporter/source/mailbox.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

#include "exporter/source/attach.h"

namespace slabscope {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kBetweenLooks{1};

// The scope file, open for writing, with the mailbox locked against other tools.
class OpenMailbox {
 public:
  explicit OpenMailbox(const std::string& path)
      : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY)),
        error_(errno) {}
  ~OpenMailbox() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  OpenMailbox(const OpenMailbox&) = delete;
  OpenMailbox& operator=(const OpenMailbox&) = delete;

  int error() const { return fd_ >= 0 ? 0 : error_; }
  bool is(FileId file) const {
    struct stat status {};
    return fstat(fd_, &status) == 0 && FileId{status.st_dev, status.st_ino} == file;
  }
  bool lock(Clock::time_point deadline) const {
    struct flock range {};
    range.l_type = F_WRLCK;
    range.l_whence = SEEK_SET;
    range.l_start = abi::kMailboxOffset;
    range.l_len = sizeof(abi::Mailbox);
    while (fcntl(fd_, F_OFD_SETLK, &range) != 0) {
      if (Clock::now() > deadline) {
        return false;
      }
      std::this_thread::sleep_for(kBetweenLooks);
    }
    return true;
  }
  std::optional<abi::Mailbox> read() const {
    abi::Mailbox box{};
    if (pread(fd_, &box, sizeof(box), abi::kMailboxOffset) != static_cast<ssize_t>(sizeof(box))) {
      return std::nullopt;
    }
    return box;
  }
  // The sequence last, in a write of its own: who sees it sees the rest.
  bool write(const abi::Request& request) const {
    constexpr size_t kRest = offsetof(abi::Request, check);
    static_assert(offsetof(abi::Request, sequence) == 0 && kRest == sizeof(request.sequence));
    const auto* bytes = reinterpret_cast<const char*>(&request);
    return pwrite(fd_, bytes + kRest, sizeof(request) - kRest, abi::kMailboxOffset + kRest) ==
               static_cast<ssize_t>(sizeof(request) - kRest) &&
           pwrite(fd_, bytes, kRest, abi::kMailboxOffset) == static_cast<ssize_t>(kRest);
  }

 private:
  int fd_;
  int error_;
};

Failure failure(const TargetInfo& target, const std::string& why) {
  return {ErrorCode::kUnreadable, target.path + ": " + why};
}

}  // namespace

Result<RequestOutcome> ask_target(const TargetInfo& target, abi::Action action, uint64_t argument,
                                  std::chrono::milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  const OpenMailbox file(target.path);
  if (file.error() != 0) {
    const bool permission = file.error() == EACCES || file.error() == EPERM;
    return failure(target, permission
                               ? "permission denied; ask as the user of that process, or as root"
                               : std::generic_category().message(file.error()));
  }
  const Result<TargetInfo> now = attach_info(target.path);
  if (!now) {
    return now.failure();
  }
  if (now->state != TargetState::kRunning || !file.is(now->file)) {
    return failure(target, "its process has ended; nobody is there to be asked");
  }
  if (!file.lock(deadline)) {
    return failure(target, "another slabscope waits for an answer of this process; try again");
  }
  const std::optional<abi::Mailbox> before = file.read();
  if (!before) {
    return failure(target, "cut off within its header; remove it");
  }
  RequestOutcome outcome;
  outcome.replaced = before->request.sequence != before->reply.sequence;
  abi::Request request{};
  request.sequence = before->request.sequence + 1 == 0 ? 1 : before->request.sequence + 1;
  request.check = ~request.sequence;
  request.action = static_cast<uint32_t>(action);
  request.argument = argument;
  if (!file.write(request)) {
    return failure(target, "cannot be written to: " + std::generic_category().message(errno));
  }
  for (;;) {
    const std::optional<abi::Mailbox> box = file.read();
    if (box && box->reply.sequence == request.sequence) {
      outcome.state = box->reply.status == static_cast<uint32_t>(abi::ReplyStatus::kDone)
                          ? RequestOutcome::State::kDone
                          : RequestOutcome::State::kRefused;
      outcome.value = box->reply.value;
      return outcome;
    }
    if (Clock::now() >= deadline) {
      break;
    }
    std::this_thread::sleep_for(kBetweenLooks);
  }
  const Result<TargetInfo> after = attach_info(target.path);
  if (after && after->state != TargetState::kRunning) {
    return failure(target, "its process ended before it answered");
  }
  return outcome;
}

}  // namespace slabscope
