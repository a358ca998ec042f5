// SPDX-License-Identifier: MIT
//
// scope_dir: where scope files lie, how one is born, and how those of the dead are removed.
//
//   directory usable? ─► .<random>.tmp, O_EXCL, 0600 ─► flock ─► (map, fill) ─► publish: rename
//                                                                  └ any failure ─► discard: unlink
//
// A directory is usable if it is one (no symbolic link), belongs to us (a shared one to root or us,
// with the sticky bit) and lies on tmpfs; a directory that the user named may lie anywhere.
// Dead files: a lock that is free means that nobody maps the file. The first shim that sees one
// marks it (mode 0400, mtime = now); kKeepSeconds later another one removes it. While there are
// very many files, or the file system is more than half full, the dead go at once. A directory
// that the user named is left to its user.
// Locks: none but flock(2). No descriptor outlives publish(), discard() or remove_stale_files().
// Called from: scope_file.cc, scope_fork.cc.

#pragma once

#include <cstddef>
#include <cstdint>

#include "diag/text.h"

namespace slabscope::diag {

using Path = Text<320>;

enum class DirectoryKind : uint32_t {
  kGiven,    // $SLABSCOPE_DIR: any file system, created if missing
  kShared,   // /run/slabscope: only if it is there
  kPrivate,  // ours: created 0700 if missing
};

// A file under its temporary name.
struct NewFile {
  int fd = -1;
  int directory_fd = -1;
  Text<32> temporary;
};

// Creates, locks and sizes a file in `directory`; null, or what failed. `file` holds descriptors
// only if it succeeded.
[[nodiscard]] const char* create_file(const char* directory, DirectoryKind kind, NewFile& file);

// Gives the file its name, written to `path`, and closes it; null, or what failed (then discarded).
[[nodiscard]] const char* publish_file(NewFile& file, const char* directory, uint64_t start_ns,
                                       int pid, Path& path);
void discard_file(NewFile& file);

// Looks at a bounded number of files in `directory`; returns how many it removed.
unsigned remove_stale_files(const char* directory);
// Whether this start should do that: one in 32, one in 4 when the file system is half full.
[[nodiscard]] bool stale_files_are_due(const char* directory);

// Unpredictable enough for a name; never fails.
[[nodiscard]] uint64_t random_bits();

}  // namespace slabscope::diag
