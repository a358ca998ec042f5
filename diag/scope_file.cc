// SPDX-License-Identifier: MIT

#include "diag/scope_file.h"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cstring>

#include "diag/memory_probe.h"
#include "slab/base/clock.h"
#include "slab/base/sys.h"
#include "slab/pages/vm.h"

namespace slabscope::diag {
namespace {

constexpr size_t kPage = abi::kPageBytes;
// What is made present at once where records follow one another: a step costs one system call. The
// first ones are a page each, which is what most programs need.
constexpr size_t kStepBytes = size_t{16} << 10;
constexpr size_t step_at(size_t offset) {
  return offset < kStepBytes ? kPage : kStepBytes;
}

// Room in the tables when address space is scarce (ulimit -v of 64 MiB and less) or limited.
constexpr size_t kScarceAddressSpace = size_t{256} << 20;
constexpr size_t kAmpleAddressSpace = size_t{4} << 30;
constexpr size_t kLeastDepotBytes = size_t{1} << 20;
constexpr size_t kLeastObjectBytes = size_t{1} << 20;
constexpr size_t kMiddleDepotBytes = size_t{16} << 20;
constexpr size_t kMiddleObjectBytes = size_t{40} << 20;

std::byte* map_region(size_t bytes, int flags, int fd, uint64_t offset) {
  const long result = sys::raw(SYS_mmap, 0, sys::arg(bytes), PROT_READ | PROT_WRITE, flags, fd,
                               static_cast<long>(offset));
  return sys::failed(result) ? nullptr : reinterpret_cast<std::byte*>(result);
}

void unmap_region(std::byte*& base, size_t bytes) {
  if (base != nullptr)
    sys::raw(SYS_munmap, sys::arg(base), sys::arg(bytes));
  base = nullptr;
}

// Relative names are made absolute: the program may change its working directory.
bool absolute_path(const char* directory, Path& path) {
  path.clear();
  if (directory[0] != '/') {
    char working[256];
    // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): the kernel wrote it.
    if (sys::failed(sys::raw(SYS_getcwd, sys::arg(working), sizeof working)) || working[0] != '/') {
      return false;
    }
    path.add(working).put('/');
  }
  path.add(directory);
  return !path.cut();
}

// What execve() was given, if it does not depend on a working directory.
const char* path_of_start() {
  const auto* path = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  return path != nullptr && *path == '/' ? path : nullptr;
}

}  // namespace

// ---- open -----------------------------------------------------------------------------------

bool ScopeFile::open(const ScopeFileOptions& options) {
  choose_sizes();
  failure_ = open_anywhere(options);
  may_reopen_ = failure_ == nullptr;
  if (may_reopen_)
    return true;
  shared_ = false;
  path_.clear();
  if (!map_private()) {
    choose_least();
    if (!map_private()) {
      failure_ = "no memory";
      return false;
    }
  }
  fill_header(options);
  return false;
}

const char* ScopeFile::open_anywhere(const ScopeFileOptions& options) {
  const char* why = "no usable directory";
  if (options.directory != nullptr && options.directory[0] != '\0') {
    why = open_in(options.directory, DirectoryKind::kGiven, options);
    if (why == nullptr)
      return nullptr;
  }
  if (open_in("/run/slabscope", DirectoryKind::kShared, options) == nullptr)
    return nullptr;
  if (options.xdg_runtime_dir != nullptr && options.xdg_runtime_dir[0] == '/') {
    Path path;
    path.add(options.xdg_runtime_dir).add("/slabscope");
    if (!path.cut() && open_in(path.c_str(), DirectoryKind::kPrivate, options) == nullptr) {
      return nullptr;
    }
  }
  Path path;
  path.add("/dev/shm/slabscope-").decimal(static_cast<uint64_t>(sys::raw(SYS_geteuid)));
  const char* last = open_in(path.c_str(), DirectoryKind::kPrivate, options);
  if (last == nullptr)
    return nullptr;
  // What the user asked for is what he wants explained.
  return options.directory != nullptr && options.directory[0] != '\0' ? why : last;
}

// Creates, maps, fills and publishes a file there; null, or what failed (then nothing is left).
const char* ScopeFile::open_in(const char* directory, DirectoryKind kind,
                               const ScopeFileOptions& options) {
  if (!absolute_path(directory, directory_))
    return "the directory's name is too long";
  kind_ = kind;
  NewFile file;
  const char* why = create_file(directory_.c_str(), kind, file);
  if (why != nullptr)
    return why;
  if (!map_file(file.fd)) {
    discard_file(file);
    return "the file cannot be mapped";
  }
  shared_ = true;
  if (!ensure(control_, kPage)) {
    forget_file("the file system is full");
    discard_file(file);
    return failure_;
  }
  fill_header(options);
  why = publish_file(file, directory_.c_str(), header()->start_realtime_ns, sys::pid(), path_);
  if (why != nullptr)
    forget_file(why);
  return why;
}

void ScopeFile::forget_file(const char* why) {
  failure_ = why;
  shared_ = false;
  path_.clear();
  unmap_all();
  control_pages_.clear();
}

void ScopeFile::choose_sizes() {
  const size_t limit = vm::address_space_limit();
  if (limit < kScarceAddressSpace) {
    choose_least();
  } else if (limit < kAmpleAddressSpace) {
    depot_bytes_ = kMiddleDepotBytes;
    objects_bytes_ = kMiddleObjectBytes;
  } else {
    depot_bytes_ = abi::kDepotBytes;
    objects_bytes_ = abi::kObjectsBytes;
  }
  control_bytes_ = abi::kDepotOffset + depot_bytes_;
}

void ScopeFile::choose_least() {
  depot_bytes_ = kLeastDepotBytes;
  objects_bytes_ = kLeastObjectBytes;
  control_bytes_ = abi::kDepotOffset + depot_bytes_;
}

bool ScopeFile::map_file(int fd) {
  control_ = map_region(control_bytes_, MAP_SHARED, fd, 0);
  objects_ = map_region(objects_bytes_, MAP_SHARED, fd, abi::kObjectsOffset);
  anchor_ = map_region(kPage, MAP_SHARED, fd, abi::kThreadsOffset);
  if (control_ != nullptr && objects_ != nullptr && anchor_ != nullptr)
    return true;
  unmap_all();
  return false;
}

bool ScopeFile::map_private() {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  control_ = map_region(control_bytes_, kFlags, -1, 0);
  objects_ = map_region(objects_bytes_, kFlags, -1, 0);
  if (control_ == nullptr || objects_ == nullptr) {
    unmap_all();
    return false;
  }
  vm::exclude_from_dumps(control_, control_bytes_);
  vm::exclude_from_dumps(objects_, objects_bytes_);
  return true;
}

void ScopeFile::unmap_all() {
  unmap_region(control_, control_bytes_);
  unmap_region(objects_, objects_bytes_);
  unmap_region(anchor_, kPage);
}

// ---- the header -----------------------------------------------------------------------------

void ScopeFile::fill_header(const ScopeFileOptions& options) {
  abi::Header& h = *header();
  h.magic = abi::kMagic;
  h.version = abi::kVersion;
  h.header_bytes = sizeof(abi::Header);
  h.layout_hash = abi::kLayoutHash;
  h.file_bytes = abi::kFileBytes;
  h.track_mode = static_cast<uint32_t>(options.mode);
  h.sample_interval = options.interval;
  copy_text(h.app, sizeof h.app, options.app);
  copy_text(h.shim_version, sizeof h.shim_version, SLABSCOPE_VERSION);
  const long length =
      sys::raw(SYS_readlink, sys::arg("/proc/self/exe"), sys::arg(h.exe), sizeof h.exe - 1);
  h.exe[sys::failed(length) ? 0 : length] = '\0';
  if (sys::failed(length))  // no /proc, as in a chroot
    copy_text(h.exe, sizeof h.exe, path_of_start());
  fill_sections();
  fill_identity();
  // A reader that sees kRunning sees all of the above.
  std::atomic_ref(h.state).store(static_cast<uint32_t>(abi::ProcessState::kRunning),
                                 std::memory_order_release);
}

// What differs between a process and its fork child.
void ScopeFile::fill_identity() {
  abi::Header& h = *header();
  h.start_realtime_ns = realtime_ns();
  h.start_monotonic_ns = monotonic_ns();
  h.end_monotonic_ns = 0;
  h.pid = static_cast<uint32_t>(sys::pid());
  h.parent_pid = static_cast<uint32_t>(sys::raw(SYS_getppid));
  h.uid = static_cast<uint32_t>(sys::raw(SYS_getuid));
  sys::raw(SYS_prctl, PR_GET_NAME, sys::arg(h.comm));
  h.comm[sizeof h.comm - 1] = '\0';
}

void ScopeFile::fill_sections() {
  abi::Section* sections = header()->sections;
  const auto limit = [](size_t bytes, size_t record) {
    return static_cast<uint32_t>(bytes / record);
  };
  sections[abi::kSectionCaches] = {abi::kCachesOffset, abi::kCachesBytes, sizeof(abi::CacheRecord),
                                   abi::kMaxCaches, 0};
  sections[abi::kSectionModules] = {abi::kModulesOffset, abi::kModulesBytes,
                                    sizeof(abi::ModuleRecord), abi::kMaxModules, 0};
  sections[abi::kSectionStrings] = {abi::kStringsOffset, abi::kStringsBytes, 1, abi::kStringsBytes,
                                    1};
  sections[abi::kSectionDepot] = {abi::kDepotOffset, depot_bytes_, 8, limit(depot_bytes_, 8),
                                  abi::kDepotBuckets * sizeof(uint32_t) / 8};
  sections[abi::kSectionObjects] = {abi::kObjectsOffset, objects_bytes_, sizeof(abi::ObjectRecord),
                                    limit(objects_bytes_, sizeof(abi::ObjectRecord)), 0};
  sections[abi::kSectionThreads] = {abi::kThreadsOffset, abi::kThreadsBytes, abi::kThreadSlotBytes,
                                    abi::kMaxThreads, 0};
  header()->events = {abi::kEventsOffset, abi::kEventsBytes, sizeof(abi::EventRecord),
                      abi::kMaxEvents, 0};
  header()->groups = {abi::kGroupsOffset, abi::kGroupsBytes, sizeof(abi::GroupRecord),
                      abi::kMaxGroups, 0};
  header()->peaks = {abi::kPeaksOffset, abi::kPeaksBytes, abi::kPeakRecordBytes, abi::kMaxPeaks, 0};
}

void ScopeFile::set_exited() {
  abi::Header& h = *header();
  h.end_monotonic_ns = monotonic_ns();
  std::atomic_ref(h.state).store(static_cast<uint32_t>(abi::ProcessState::kExited),
                                 std::memory_order_release);
}

unsigned ScopeFile::remove_stale_sometimes() {
  if (!shared_ || kind_ == DirectoryKind::kGiven || !stale_files_are_due(directory_.c_str()))
    return 0;
  return remove_stale_files(directory_.c_str());
}

// ---- pages ----------------------------------------------------------------------------------

bool ScopeFile::ensure_slow(const void* p, size_t bytes) {
  const auto* byte = static_cast<const std::byte*>(p);
  const size_t object_offset = static_cast<size_t>(byte - objects_);
  if (object_offset < objects_bytes_)
    return ensure_object(object_offset, bytes);
  const size_t offset = static_cast<size_t>(byte - control_);
  if (offset >= control_bytes_)
    return ensure_thread(byte, bytes);
  if (bytes > control_bytes_ - offset)
    return false;

  // Depot records follow one another, everything else is touched here and there.
  constexpr size_t kRecords = abi::kDepotOffset + abi::kDepotBuckets * sizeof(uint32_t);
  const size_t step = shared_ && offset >= kRecords ? step_at(offset - kRecords) : kPage;
  const size_t first =
      (offset & ~(step - 1)) > kRecords ? offset & ~(step - 1) : offset & ~(kPage - 1);
  size_t end = (offset + bytes + step - 1) & ~(step - 1);
  if (end > control_bytes_)
    end = control_bytes_;
  if (!grow(control_ + first, end - first,
            offset >= abi::kDepotOffset ? &stacks_full_until_ : nullptr)) {
    return false;
  }
  const size_t added = control_pages_.add(first / kPage, (end - first) / kPage);
  if (offset >= abi::kDepotOffset)
    add_relaxed(counters().mapped_stacks_bytes, added * kPage);
  return true;
}

bool ScopeFile::grow(std::byte* p, size_t bytes, std::atomic<uint64_t>* full_until) {
  if (!shared_)
    return true;
  if (full_until == nullptr)
    return make_present(p, bytes);
  const uint64_t now = coarse_monotonic_ns();
  if (now < full_until->load(std::memory_order_relaxed))
    return false;
  if (make_present(p, bytes))
    return true;
  full_until->store(now + kFullNs, std::memory_order_relaxed);
  return false;
}

bool ScopeFile::ensure_object(size_t offset, size_t bytes) {
  if (bytes > objects_bytes_ - offset)
    return false;
  if (object_pages_.has(offset, bytes))
    return true;
  const size_t step = shared_ ? step_at(offset) : kPage;
  const size_t first = offset & ~(step - 1);
  size_t end = (offset + bytes + step - 1) & ~(step - 1);
  if (end > objects_bytes_)
    end = objects_bytes_;
  if (!grow(objects_ + first, end - first, &objects_full_until_))
    return false;
  const size_t added = object_pages_.add(first / kPage, (end - first) / kPage);
  add_relaxed(counters().mapped_stacks_bytes, added * kPage);
  return true;
}

uint32_t ScopeFile::thread_block_of(const std::byte* p) const {
  // Blocks usually lie side by side.
  const std::byte* first = thread_block_at_[0].load(std::memory_order_acquire);
  const auto inside = [p](const std::byte* block) {
    return block != nullptr && static_cast<size_t>(p - block) < kThreadBlockBytes;
  };
  const size_t guess = static_cast<size_t>(p - first) / kThreadBlockBytes;
  if (guess < kThreadBlocks && inside(thread_block_at_[guess].load(std::memory_order_acquire))) {
    return static_cast<uint32_t>(guess);
  }
  for (uint32_t block = 0; block < kThreadBlocks; ++block) {
    if (inside(thread_block_at_[block].load(std::memory_order_acquire)))
      return block;
  }
  return kThreadBlocks;
}

bool ScopeFile::ensure_thread(const std::byte* p, size_t bytes) {
  const uint32_t block = thread_block_of(p);
  if (block == kThreadBlocks)
    return true;  // not the file's
  std::byte* base = thread_block_at_[block].load(std::memory_order_acquire);
  const size_t within = static_cast<size_t>(p - base);
  if (bytes > kThreadBlockBytes - within)
    return false;
  const size_t offset = block * kThreadBlockBytes + within;
  if (thread_pages_.has(offset, bytes))
    return true;
  const size_t first = within & ~(kPage - 1);
  const size_t pages = (within + bytes - first + kPage - 1) / kPage;
  if (!grow(base + first, pages * kPage, nullptr))
    return false;
  thread_pages_.add(offset / kPage, pages);
  return true;
}

bool ScopeFile::ensure_slot(abi::ThreadSlot* slot) {
  return ensure(slot, kPage);
}

// ---- thread blocks --------------------------------------------------------------------------

bool ScopeFile::map_thread_block(unsigned block, void* at) {
  if (block >= kThreadBlocks)
    return false;
  MutexLock lock(mutex_);
  if (shared_) {
    if (!extend_to_block(block, at))
      return false;
  } else if (sys::failed(sys::raw(SYS_mmap, sys::arg(at), kThreadBlockBytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
                                  0))) {
    return false;
  }
  thread_block_at_[block].store(static_cast<std::byte*>(at), std::memory_order_release);
  return true;
}

// A shared mapping can be duplicated, and the copy may be longer than the original: so a page of
// the section is as good as the descriptor. The copy starts where its source does; its last block
// is moved to `target` and the rest given back.
bool ScopeFile::extend_to_block(unsigned block, void* target) {
  unsigned from = block;  // the nearest block before this one keeps the copy short
  while (from > 0 && thread_block_at_[from - 1].load(std::memory_order_relaxed) == nullptr)
    --from;
  const std::byte* source = anchor_;
  size_t lead = block * kThreadBlockBytes;
  if (from > 0) {
    source = thread_block_at_[from - 1].load(std::memory_order_relaxed);
    lead = (block - from + 1) * kThreadBlockBytes;
  }
  const long copy =
      sys::raw(SYS_mremap, sys::arg(source), 0, sys::arg(lead + kThreadBlockBytes), MREMAP_MAYMOVE);
  if (sys::failed(copy))
    return false;
  const long moved = sys::raw(SYS_mremap, copy + sys::arg(lead), kThreadBlockBytes,
                              kThreadBlockBytes, MREMAP_MAYMOVE | MREMAP_FIXED, sys::arg(target));
  const bool ok = !sys::failed(moved);
  const size_t rest = ok ? lead : lead + kThreadBlockBytes;
  if (rest > 0)
    sys::raw(SYS_munmap, copy, sys::arg(rest));
  return ok;
}

}  // namespace slabscope::diag
