// SPDX-License-Identifier: MIT
//
// ScopeFile: the shim's end of the scope file: finds a place, maps it, grows it, survives fork.
//
//   open() ─► temporary name ─► flock ─► mmap ─► close(fd) ─► rename        no descriptor is kept
//               │ any failure              │
//               ▼                          ▼ map_thread_block(n): mremap duplicates and extends
//     private memory, same layout        control │ objects │ thread block 0 … n
//                                          ▼ ensure(p, n)
//     false: file system is full ◄────── pages that are really there, so a store is no SIGBUS
//
// Invariants
//   1. A page of the file is stored to, or read, only after ensure() said true.  (full tmpfs test)
//   2. No descriptor outlives open() or child_reopen().                    (descriptor count test)
//   3. Sections keep their offsets; under RLIMIT_AS only `bytes` and `limit` shrink.
//   4. After child_detach() nothing in the process maps the parent's file.             (fork test)
// Locks: mutex_ in map_thread_block() and child_reopen(); ensure() is lock-free. All system calls
// are raw. Safe before libc's constructors.
// Called from: preload/, and diag/ tables through ensure().
// fork: child_detach() in the child's handler moves every page in use into private memory at the
// same address. child_reopen() gives the child a file of its own and should be called once the
// child has shown that it lives: most children exec or _exit within a millisecond, and a file for
// each would only be litter. It must run while the child has one thread, or counts taken meanwhile
// are lost. Rejected: keeping a descriptor (programs close or reuse any number); fallocate (needs
// one).

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "diag/abi/layout.h"
#include "diag/page_set.h"
#include "diag/scope_dir.h"
#include "slab/base/compiler.h"
#include "slab/base/mutex.h"
#include "slab/base/sole_thread.h"

namespace slabscope::diag {

struct ScopeFileOptions {
  const char* directory = nullptr;        // $SLABSCOPE_DIR, any file system; or null
  const char* xdg_runtime_dir = nullptr;  // $XDG_RUNTIME_DIR or null
  const char* app = nullptr;              // $SLABSCOPE_APP or null
  abi::TrackMode mode = abi::TrackMode::kOff;
  uint32_t interval = 0;  // bytes between samples; becomes Header::sample_interval
};

// What a fork child kept.
enum class ForkKept : uint32_t {
  kEverything,
  // too many tracked objects to copy: ObjectTable::forget() and StackDepot::forget_live()
  kNoObjects,
};

class ScopeFile {
 public:
  // Who asks a full file system for a page waits for all others that ask for it, and each new
  // object and stack asks: so their tables ask again only after this long.
  static constexpr uint64_t kFullNs = 100'000'000;
  static constexpr uint32_t kThreadBlocks = abi::kMaxThreads / abi::kThreadSlotsPerBlock;
  static constexpr size_t kThreadBlockBytes =
      size_t{abi::kThreadSlotsPerBlock} * abi::kThreadSlotBytes;

  constexpr ScopeFile() = default;
  ScopeFile(const ScopeFile&) = delete;
  ScopeFile& operator=(const ScopeFile&) = delete;

  // True if a file backs it. If false, failure() tells why and everything works unseen in private
  // memory; ready() is false only if there is no memory even for that.
  [[nodiscard]] bool open(const ScopeFileOptions& options);
  bool ready() const { return control_ != nullptr; }
  bool shared() const { return shared_; }
  const char* failure() const { return failure_ != nullptr ? failure_ : "not opened"; }
  const char* path() const { return path_.c_str(); }  // "" unless shared()

  abi::Header* header() const { return reinterpret_cast<abi::Header*>(control_); }
  abi::ProcessCounters& counters() const { return header()->counters; }
  abi::Section& section(abi::SectionIndex index) const { return header()->sections[index]; }
  abi::CacheRecord* caches() const { return at<abi::CacheRecord>(abi::kCachesOffset); }
  abi::ModuleRecord* modules() const { return at<abi::ModuleRecord>(abi::kModulesOffset); }
  char* strings() const { return at<char>(abi::kStringsOffset); }
  abi::GroupRecord* groups() const { return at<abi::GroupRecord>(abi::kGroupsOffset); }
  abi::EventRecord* events() const { return at<abi::EventRecord>(abi::kEventsOffset); }
  abi::PeakRecord* peak(uint64_t epoch) const {
    return at<abi::PeakRecord>(abi::kPeaksOffset + epoch % abi::kMaxPeaks * abi::kPeakRecordBytes);
  }
  abi::Mailbox* mailbox() const { return at<abi::Mailbox>(abi::kMailboxOffset); }
  std::byte* depot() const { return at<std::byte>(abi::kDepotOffset); }
  size_t depot_bytes() const { return depot_bytes_; }
  abi::ObjectRecord* objects() const { return reinterpret_cast<abi::ObjectRecord*>(objects_); }
  uint32_t object_limit() const {
    return static_cast<uint32_t>(objects_bytes_ / sizeof(abi::ObjectRecord));
  }

  // Makes [p, p + bytes) safe to read and write; false if the file system is full. Memory that is
  // not the file's (a thread block that could not be mapped) is always safe. Once there was no room
  // for objects or for stacks, none is asked for during kFullNs.
  [[nodiscard]] SC_INLINE bool ensure(const void* p, size_t bytes) {
    const size_t offset = static_cast<size_t>(static_cast<const std::byte*>(p) - control_);
    if (SC_LIKELY(offset < control_bytes_ && control_pages_.has(offset, bytes)))
      return true;
    return ensure_slow(p, bytes);
  }

  // Maps the file's thread block `block` over the kThreadBlockBytes at `at` (fresh private memory,
  // if no file backs us). False: nothing changed; use private memory there and count it.
  [[nodiscard]] bool map_thread_block(unsigned block, void* at);
  // Makes a slot's header and its first counters (cache ids below 192) writable.
  [[nodiscard]] bool ensure_slot(abi::ThreadSlot* slot);

  // The orderly end: end time and kExited.
  void set_exited();

  // In the parent, just before fork: keeps the forking thread's counts as they are now. The parent
  // runs on while the child copies, and would add its own allocations to the child's.
  void fork_prepare(const abi::ThreadSlot* own_slot);
  // In a fork child, first of all. Costs microseconds while little is in use.
  ForkKept child_detach();
  // A file of the child's own, in the directory that open() found; pid and start times become the
  // child's. False: goes on in private memory.
  [[nodiscard]] bool child_reopen();

  // Gives the memory back, for processes that open many.
  void close_test_only() { unmap_all(); }

  // One start in 32 removes files of dead processes from the file's directory; bounded. Returns how
  // many it removed.
  unsigned remove_stale_sometimes();

 private:
  template <typename T>
  T* at(uint64_t offset) const {
    return reinterpret_cast<T*>(control_ + offset);
  }
  SC_NOINLINE bool ensure_slow(const void* p, size_t bytes);
  bool ensure_object(size_t offset, size_t bytes);
  // Makes pages present; with `full_until`, not within kFullNs of when there was no room.
  bool grow(std::byte* p, size_t bytes, std::atomic<uint64_t>* full_until);
  bool ensure_thread(const std::byte* p, size_t bytes);
  uint32_t thread_block_of(const std::byte* p) const;
  const char* open_in(const char* directory, DirectoryKind kind, const ScopeFileOptions& options);
  const char* open_anywhere(const ScopeFileOptions& options);
  void choose_sizes();
  void choose_least();
  bool map_file(int fd);
  SC_COLD bool map_private();
  void unmap_all();
  void fill_header(const ScopeFileOptions& options);
  void fill_identity();
  void fill_sections();
  bool extend_to_block(unsigned block, void* target);
  SC_COLD void forget_file(const char* why);
  void restore_slot();
  bool detach_control();
  bool detach_objects(ForkKept& kept);
  bool detach_threads();
  bool write_pages(int fd) const;
  bool map_over(int fd);

  std::byte* control_ = nullptr;  // [0, kDepotOffset + depot_bytes_)
  std::byte* objects_ = nullptr;
  std::byte* anchor_ = nullptr;  // one page of the thread section, for mremap to start from
  size_t control_bytes_ = 0;
  size_t depot_bytes_ = 0;
  size_t objects_bytes_ = 0;
  DirectoryKind kind_ = DirectoryKind::kGiven;
  bool shared_ = false;
  bool may_reopen_ = false;  // some open() in this process or an ancestor succeeded
  const char* failure_ = nullptr;
  Mutex mutex_;                                  // growing the file
  std::atomic<uint64_t> objects_full_until_{0};  // by coarse_monotonic_ns()
  std::atomic<uint64_t> stacks_full_until_{0};
  std::array<std::atomic<std::byte*>, kThreadBlocks> thread_block_at_{};
  std::byte* fork_copy_ = nullptr;  // fork_prepare()'s copy of one thread slot
  const std::byte* fork_slot_ = nullptr;
  Path directory_;
  Path path_;
  PageSet<abi::kObjectsOffset / abi::kPageBytes> control_pages_;
  PageSet<abi::kObjectsBytes / abi::kPageBytes> object_pages_;
  PageSet<abi::kThreadsBytes / abi::kPageBytes> thread_pages_;
};

}  // namespace slabscope::diag
