// SPDX-License-Identifier: MIT

#include "exporter/source/targets.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <set>
#include <system_error>
#include <tuple>

#include "exporter/base/text.h"
#include "exporter/source/attach.h"
#include "exporter/source/process_info.h"

namespace slabscope {
namespace {

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(opendir(directory.c_str()), closedir);
  if (!handle && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
    // Our own trouble: without this, every process would look as if it had gone.
    throw std::system_error(errno, std::generic_category(), directory);
  }
  if (handle) {
    while (const dirent* entry = readdir(handle.get())) {
      names.emplace_back(entry->d_name);
    }
  }
  return names;
}

void add_shm_directories(std::vector<std::string>& directories) {
  const std::string own = "/dev/shm/slabscope-" + std::to_string(getuid());
  directories.push_back(own);
  if (geteuid() == 0) {
    for (const std::string& name : names_in("/dev/shm")) {
      if (name.starts_with("slabscope-") && "/dev/shm/" + name != own) {
        directories.push_back("/dev/shm/" + name);
      }
    }
  }
}

bool is_regular_file(const std::string& path, FileId& id) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return false;
  }
  id = {status.st_dev, status.st_ino};
  return true;
}

FoundTarget look_at(const std::string& path, FileId id, const KnownTarget& known) {
  FoundTarget found{path, id, std::nullopt, std::nullopt};
  if (const TargetInfo* info = known ? known(path, id) : nullptr) {
    found.info = *info;
    return found;
  }
  Result<TargetInfo> info = attach_info(path);
  if (info) {
    found.file = info->file;
    found.info = std::move(*info);
  } else {
    found.failure = info.failure();
  }
  return found;
}

// Newest first, and what could not be read at the end.
bool comes_before(const FoundTarget& a, const FoundTarget& b) {
  if (a.info.has_value() != b.info.has_value()) {
    return a.info.has_value();
  }
  if (a.info && a.info->start_realtime_ns != b.info->start_realtime_ns) {
    return a.info->start_realtime_ns > b.info->start_realtime_ns;
  }
  return a.path < b.path;
}

// A process that ended without a word, and whose pid came up again under the same parent: exec.
void mark_replaced(std::vector<FoundTarget>& newest_first) {
  std::set<std::tuple<uint32_t, uint32_t, uint32_t>> newer;
  for (FoundTarget& target : newest_first) {
    if (!target.info) {
      continue;
    }
    const bool seen =
        !newer.insert({target.info->uid, target.info->pid, target.info->parent_pid}).second;
    if (seen && target.info->state == TargetState::kDied) {
      target.info->state = TargetState::kReplaced;
    }
  }
}

std::string describe(const TargetInfo& info) {
  return std::to_string(info.pid) + " " + info.comm + " (" + std::string(to_string(info.state)) +
         ")";
}

Failure ambiguous(std::string_view text, const std::vector<const TargetInfo*>& candidates) {
  constexpr size_t kShown = 8;
  std::string message = "'" + printable_utf8(text) + "' fits several processes: ";
  for (size_t i = 0; i < std::min(kShown, candidates.size()); ++i) {
    message += (i == 0 ? "" : ", ") + describe(*candidates[i]);
  }
  if (candidates.size() > kShown) {
    message += " and " + std::to_string(candidates.size() - kShown) + " more";
  }
  return {ErrorCode::kAmbiguous, message + "; name one by its pid"};
}

Failure no_target(std::string_view text, const std::vector<FoundTarget>& targets) {
  std::string message =
      "no process under slabscope fits '" + printable_utf8(text) + "'; `slabscope ps` lists them";
  const auto unreadable = std::find_if(targets.begin(), targets.end(), [](const FoundTarget& one) {
    return one.failure.has_value();
  });
  if (unreadable != targets.end()) {  // it may be the one that is meant
    message += "; files that cannot be read: " + std::to_string(targets.end() - unreadable) +
               ", the first: " + printable_utf8(unreadable->failure->message);
  }
  return {ErrorCode::kNotFound, message};
}

// The file of a process that lives and may be looked at, without a look at all the others.
std::optional<TargetInfo> running_target(uint32_t pid) {
  for (const MappedFile& mapped : scope_files_mapped_by(pid)) {
    Result<TargetInfo> info = attach_info(mapped.path);
    if (info && info->pid == pid && info->file == mapped.file) {
      return std::move(*info);
    }
  }
  return std::nullopt;
}

// A name that is the whole text wins over one that holds it, live ones win over dead ones; of the
// dead, the newest is meant if all bear one name: a program that was run again and again.
Result<TargetInfo> resolve_name(std::string_view text, const std::vector<FoundTarget>& targets) {
  enum Rank : size_t { kLiveExact, kDeadExact, kLivePart, kDeadPart, kRanks };
  std::array<std::vector<const TargetInfo*>, kRanks> ranks;
  for (const FoundTarget& target : targets) {
    if (target.info && target.info->comm.find(text) != std::string::npos) {
      const bool live = target.info->state == TargetState::kRunning;
      const bool exact = target.info->comm == text;
      ranks[exact ? (live ? kLiveExact : kDeadExact) : (live ? kLivePart : kDeadPart)].push_back(
          &*target.info);
    }
  }
  const auto best = std::find_if(ranks.begin(), ranks.end() - 1,
                                 [](const auto& candidates) { return !candidates.empty(); });
  const auto& candidates = *best;
  if (candidates.empty()) {
    return no_target(text, targets);
  }
  const bool one_name =
      std::all_of(candidates.begin(), candidates.end(),
                  [&](const TargetInfo* info) { return info->comm == candidates.front()->comm; });
  const bool dead = best == ranks.begin() + kDeadExact || best == ranks.begin() + kDeadPart;
  return candidates.size() == 1 || (dead && one_name) ? Result<TargetInfo>(*candidates.front())
                                                      : ambiguous(text, candidates);
}

std::optional<uint32_t> parse_pid(std::string_view text) {
  uint32_t pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional(pid)
                                                                  : std::nullopt;
}

}  // namespace

std::string_view state_of_failure(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNotReady:
      return "not_ready";
    case ErrorCode::kVersionMismatch:
      return "version_mismatch";
    case ErrorCode::kTruncated:
      return "truncated";
    case ErrorCode::kBadMagic:
    case ErrorCode::kCorrupt:
      return "corrupt";
    default:
      return "unreadable";
  }
}

std::vector<std::string> target_directories() {
  std::vector<std::string> directories;
  if (const char* chosen = std::getenv("SLABSCOPE_DIR"); chosen != nullptr && *chosen != '\0') {
    directories.emplace_back(chosen);
  }
  directories.emplace_back("/run/slabscope");
  if (const char* run = std::getenv("XDG_RUNTIME_DIR"); run != nullptr && *run == '/') {
    directories.push_back(std::string(run).append("/slabscope"));
  }
  add_shm_directories(directories);
  return directories;
}

std::vector<FoundTarget> find_targets(const std::vector<std::string>& directories,
                                      const KnownTarget& known) {
  std::vector<FoundTarget> found;
  std::set<FileId> seen;
  for (const std::string& directory : directories) {
    for (const std::string& name : names_in(directory)) {
      FileId id;
      const std::string path = std::string(directory).append("/").append(name);
      if (name.ends_with(kScopeSuffix) && is_regular_file(path, id) && seen.insert(id).second) {
        found.push_back(look_at(path, id, known));
      }
    }
  }
  // A file that its process or another reaper removed meanwhile is no finding.
  std::erase_if(found, [](const FoundTarget& target) {
    return target.failure && target.failure->code == ErrorCode::kNotFound;
  });
  std::sort(found.begin(), found.end(), comes_before);
  mark_replaced(found);
  return found;
}

std::vector<FoundTarget> find_targets() {
  return find_targets(target_directories());
}

Result<TargetInfo> resolve_target(std::string_view text) {
  if (text.find('/') != std::string_view::npos || text.ends_with(kScopeSuffix)) {
    return attach_info(std::string(text));
  }
  const std::optional<uint32_t> pid = parse_pid(text);
  if (pid) {
    if (std::optional<TargetInfo> running = running_target(*pid)) {
      return std::move(*running);
    }
  }
  const std::vector<FoundTarget> targets = find_targets();
  if (pid) {
    const auto is_it = [&](const FoundTarget& target) {
      return target.info && target.info->pid == *pid;
    };
    const auto found = std::find_if(targets.begin(), targets.end(), is_it);
    if (found != targets.end()) {
      return *found->info;
    }
  }
  return text.empty() ? no_target(text, targets) : resolve_name(text, targets);
}

Result<TargetInfo> newest_of_pid(uint32_t pid, uint64_t not_before_realtime_ns) {
  const std::vector<FoundTarget> targets = find_targets();
  for (const FoundTarget& target : targets) {
    if (target.info && target.info->pid == pid &&
        target.info->start_realtime_ns >= not_before_realtime_ns) {
      return *target.info;
    }
  }
  return no_target(std::to_string(pid), targets);
}

}  // namespace slabscope
