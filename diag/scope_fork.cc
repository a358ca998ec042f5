// SPDX-License-Identifier: MIT
//
// The fork child's side of ScopeFile. Everything here runs while the process has one thread.
//
//   child_detach   each mapping: new private memory ◄─ copy of the pages in use; mremap into place
//   child_reopen   new file ◄─ write(2) of the pages in use; mmap it into place
//
// Copies go by write(2) or between two mappings, so that a full file system is an error and not a
// signal. Which pages are in use is in the page sets, which the child inherited.

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "diag/memory_probe.h"
#include "diag/scope_file.h"
#include "slab/base/sys.h"
#include "slab/pages/vm.h"

namespace slabscope::diag {
namespace {

constexpr size_t kPage = abi::kPageBytes;
constexpr size_t kBlockPages = ScopeFile::kThreadBlockBytes / kPage;
// 64 MiB is 1.6 million tracked objects and costs some 20 ms; beyond, a child starts without them.
constexpr size_t kMaxForkObjectBytes = size_t{64} << 20;

// Fresh private memory that takes the place of a mapping, with its pages in use copied.
class Replacement {
 public:
  Replacement(std::byte* target, size_t bytes) : target_(target), bytes_(bytes) {}

  // Copies `bytes` at `offset`; false if there is no memory.
  bool copy(size_t offset, size_t bytes) {
    if (copy_ == nullptr)
      copy_ = map_fresh(nullptr, 0);
    if (copy_ == nullptr)
      return false;
    // One call for a run of pages costs half of what their faults do; failing, they fault.
    if (bytes > kPage)
      static_cast<void>(make_present(copy_ + offset, bytes));
    __builtin_memcpy(copy_ + offset, target_ + offset, bytes);
    return true;
  }
  bool install() {
    if (copy_ == nullptr)
      return map_fresh(target_, MAP_FIXED) != nullptr;
    const long moved = sys::raw(SYS_mremap, sys::arg(copy_), sys::arg(bytes_), sys::arg(bytes_),
                                MREMAP_MAYMOVE | MREMAP_FIXED, sys::arg(target_));
    if (sys::failed(moved)) {
      sys::raw(SYS_munmap, sys::arg(copy_), sys::arg(bytes_));
      return false;
    }
    vm::exclude_from_dumps(target_, bytes_);
    return true;
  }

 private:
  std::byte* map_fresh(std::byte* at, int flags) const {
    const long result = sys::raw(SYS_mmap, sys::arg(at), sys::arg(bytes_), PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
    return sys::failed(result) ? nullptr : reinterpret_cast<std::byte*>(result);
  }

  std::byte* target_;
  size_t bytes_;
  std::byte* copy_ = nullptr;  // stays null while there is nothing to copy
};

// Puts private memory over [base, base + bytes), with the pages of `pages` from `begin` on copied.
template <typename Pages>
bool replace_mapping(std::byte* base, size_t bytes, const Pages& pages, size_t begin) {
  Replacement memory(base, bytes);
  bool ok = true;
  pages.for_each_run(begin, begin + bytes / kPage, [&](size_t first, size_t count) {
    ok = ok && memory.copy((first - begin) * kPage, count * kPage);
  });
  return ok && memory.install();
}

bool write_at(int fd, const std::byte* from, size_t bytes, uint64_t offset) {
  while (bytes > 0) {
    const long wrote =
        sys::raw(SYS_pwrite64, fd, sys::arg(from), sys::arg(bytes), static_cast<long>(offset));
    if (wrote == -EINTR)
      continue;
    if (wrote <= 0)
      return false;
    from += wrote;
    offset += static_cast<uint64_t>(wrote);
    bytes -= static_cast<size_t>(wrote);
  }
  return true;
}

bool map_at(int fd, void* target, size_t bytes, uint64_t offset) {
  return !sys::failed(sys::raw(SYS_mmap, sys::arg(target), sys::arg(bytes), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_FIXED, fd, static_cast<long>(offset)));
}

size_t pages_of(uint64_t bytes) {
  return (bytes + kPage - 1) / kPage;
}

}  // namespace

void ScopeFile::fork_prepare(const abi::ThreadSlot* own_slot) {
  fork_slot_ = nullptr;
  if (!shared_ || own_slot == nullptr)
    return;
  if (fork_copy_ == nullptr)
    fork_copy_ = static_cast<std::byte*>(vm::map(abi::kThreadSlotBytes));
  const auto* slot = reinterpret_cast<const std::byte*>(own_slot);
  const uint32_t block = thread_block_of(slot);
  if (fork_copy_ == nullptr || block == kThreadBlocks)
    return;
  const std::byte* base = thread_block_at_[block].load(std::memory_order_relaxed);
  const size_t begin = block * kBlockPages + static_cast<size_t>(slot - base) / kPage;
  thread_pages_.for_each_run(begin, begin + abi::kThreadSlotBytes / kPage,
                             [&](size_t first, size_t pages) {
                               const size_t at = (first - begin) * kPage;
                               __builtin_memcpy(fork_copy_ + at, slot + at, pages * kPage);
                             });
  fork_slot_ = slot;
}

void ScopeFile::restore_slot() {
  if (fork_slot_ == nullptr)
    return;
  const uint32_t block = thread_block_of(fork_slot_);
  std::byte* base = thread_block_at_[block].load(std::memory_order_relaxed);
  const size_t within = static_cast<size_t>(fork_slot_ - base);
  const size_t begin = block * kBlockPages + within / kPage;
  thread_pages_.for_each_run(begin, begin + abi::kThreadSlotBytes / kPage,
                             [&](size_t first, size_t pages) {
                               const size_t at = (first - begin) * kPage;
                               __builtin_memcpy(base + within + at, fork_copy_ + at, pages * kPage);
                             });
  fork_slot_ = nullptr;
}

ForkKept ScopeFile::child_detach() {
  mutex_.reset_after_fork();
  ForkKept kept = ForkKept::kEverything;
  if (!shared_)
    return kept;  // private memory is the child's own already
  const bool objects = detach_objects(kept);
  const bool threads = detach_threads();
  if (threads)
    restore_slot();
  const bool control = detach_control();  // last: the others read the section table
  if (!objects || !threads || !control)
    failure_ = "no memory after fork";
  sys::raw(SYS_munmap, sys::arg(anchor_), kPage);
  anchor_ = nullptr;
  shared_ = false;
  path_.clear();
  fill_identity();
  return kept;
}

bool ScopeFile::detach_control() {
  // The depot's pages come in steps; those beyond its last record hold nothing.
  const uint64_t used = section(abi::kSectionDepot).used * 8;
  const uint64_t end = abi::kDepotOffset + (used < depot_bytes_ ? used : depot_bytes_);
  control_pages_.remove_from(pages_of(end));
  return replace_mapping(control_, control_bytes_, control_pages_, 0);
}

bool ScopeFile::detach_objects(ForkKept& kept) {
  const uint64_t used = section(abi::kSectionObjects).used * sizeof(abi::ObjectRecord);
  if (used > kMaxForkObjectBytes)
    kept = ForkKept::kNoObjects;
  object_pages_.remove_from(kept == ForkKept::kNoObjects ? 0 : pages_of(used));
  return replace_mapping(objects_, objects_bytes_, object_pages_, 0);
}

bool ScopeFile::detach_threads() {
  for (size_t block = 0; block < kThreadBlocks; ++block) {
    std::byte* base = thread_block_at_[block].load(std::memory_order_relaxed);
    if (base == nullptr)
      continue;
    if (!replace_mapping(base, kThreadBlockBytes, thread_pages_, block * kBlockPages))
      return false;
  }
  return true;
}

bool ScopeFile::child_reopen() {
  MutexLock lock(mutex_);
  if (shared_)
    return true;
  if (!may_reopen_)
    return false;
  NewFile file;
  failure_ = create_file(directory_.c_str(), kind_, file);
  if (failure_ != nullptr)
    return false;
  if (!write_pages(file.fd)) {
    discard_file(file);
    failure_ = "the file system is full";
    return false;
  }
  if (!map_over(file.fd)) {
    discard_file(file);
    failure_ = "the file cannot be mapped";
    return false;
  }
  failure_ = publish_file(file, directory_.c_str(), header()->start_realtime_ns, sys::pid(), path_);
  shared_ = true;  // mapped it is, even if nobody will find it by name
  return failure_ == nullptr;
}

bool ScopeFile::write_pages(int fd) const {
  bool ok = true;
  control_pages_.for_each_run(0, control_bytes_ / kPage, [&](size_t first, size_t pages) {
    ok = ok && write_at(fd, control_ + first * kPage, pages * kPage, first * kPage);
  });
  object_pages_.for_each_run(0, objects_bytes_ / kPage, [&](size_t first, size_t pages) {
    ok = ok &&
         write_at(fd, objects_ + first * kPage, pages * kPage, abi::kObjectsOffset + first * kPage);
  });
  for (size_t block = 0; ok && block < kThreadBlocks; ++block) {
    const std::byte* base = thread_block_at_[block].load(std::memory_order_relaxed);
    if (base == nullptr)
      continue;
    const size_t begin = block * kBlockPages;
    thread_pages_.for_each_run(begin, begin + kBlockPages, [&](size_t first, size_t pages) {
      ok = ok && write_at(fd, base + (first - begin) * kPage, pages * kPage,
                          abi::kThreadsOffset + first * kPage);
    });
  }
  return ok;
}

// Each mapping changes from private memory to the file's copy of it. The file's pages are all
// there, so a mapping that fails half way leaves a process that counts rightly and is merely seen
// in part.
bool ScopeFile::map_over(int fd) {
  const long anchor = sys::raw(SYS_mmap, 0, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                               static_cast<long>(abi::kThreadsOffset));
  if (sys::failed(anchor))
    return false;
  anchor_ = reinterpret_cast<std::byte*>(anchor);
  if (!map_at(fd, control_, control_bytes_, 0))
    return false;
  bool ok = map_at(fd, objects_, objects_bytes_, abi::kObjectsOffset);
  for (size_t block = 0; ok && block < kThreadBlocks; ++block) {
    std::byte* base = thread_block_at_[block].load(std::memory_order_relaxed);
    if (base == nullptr)
      continue;
    ok = map_at(fd, base, kThreadBlockBytes, abi::kThreadsOffset + block * kThreadBlockBytes);
  }
  return true;
}

}  // namespace slabscope::diag
