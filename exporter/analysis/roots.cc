// SPDX-License-Identifier: MIT

#include "exporter/analysis/roots.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "exporter/analysis/loaded_module.h"
#include "exporter/analysis/thread_roots.h"
#include "exporter/base/saturating.h"

namespace slabscope {
namespace {

constexpr uint64_t kWord = sizeof(uint64_t);
constexpr size_t kMostMetaBlocks = 1 << 20;
constexpr size_t kMostLinkMaps = 65536;

class RootFinder {
 public:
  RootFinder(const MemorySource& memory, const abi::HeapLayout& layout,
             const std::vector<Mapping>& mappings, const std::vector<ThreadContext>& threads,
             const HeapImage& heap)
      : memory_(memory), layout_(layout), mappings_(mappings), threads_(threads), heap_(heap) {}

  Roots find(RootSet set) {
    find_own();
    find_modules();
    read_modules();
    add_threads();
    if (set == RootSet::kAll) {
      for (const Mapping& mapping : mappings_) {
        add_anonymous(mapping);
      }
    }
    subtract_excluded();
    return std::move(roots_);
  }

 private:
  void add(uint64_t begin, uint64_t end) {
    begin = (begin + kWord - 1) / kWord * kWord;
    end = end / kWord * kWord;
    if (begin < end) {
      roots_.ranges.push_back({begin, end});
    }
  }
  void exclude(uint64_t begin, uint64_t bytes) {
    if (begin != 0 && bytes != 0) {
      excluded_.push_back({begin, saturating_sum(begin, bytes)});
    }
  }

  void find_own();
  void find_modules();
  void read_modules();
  void add_loader(uint64_t structs);
  void add_threads();
  void add_anonymous(const Mapping& mapping);
  void subtract_excluded();
  void add_mapped(const RootRange& range);
  std::optional<uint64_t> ended_thread(const Mapping& mapping) const;

  const MemorySource& memory_;
  const abi::HeapLayout& layout_;
  const std::vector<Mapping>& mappings_;
  const std::vector<ThreadContext>& threads_;
  const HeapImage& heap_;
  Roots roots_;
  std::vector<RootRange> excluded_;
  std::map<const Mapping*, uint64_t> unused_until_;  // of stacks' mappings
  uint64_t storage_bytes_ = 0;                       // thread-local, of all modules
  std::set<FileId> modules_;                         // files that are mapped to be run
  std::set<FileId> own_modules_;                     // the shim, and the unwinder that it loads
};

// The allocator's memory, which leads to every object and means nothing.
void RootFinder::find_own() {
  exclude(heap_.window_begin(), heap_.window_end() - heap_.window_begin());
  for (const HeapRun& run : heap_.runs()) {
    exclude(run.begin, run.bytes);
  }
  for (const abi::OwnMemory& own : layout_.own) {
    const uint64_t begin = memory_.value<uint64_t>(own.pointer_at).value_or(0);
    const uint64_t count = own.count_bytes == sizeof(uint32_t)
                               ? memory_.value<uint32_t>(own.count_at).value_or(0)
                               : memory_.value<uint64_t>(own.count_at).value_or(0);
    if (own.shift < 64 && count < uint64_t{1} << 48) {
      exclude(begin, count * own.unit_bytes >> own.shift);
    }
  }
  const uint32_t blocks = memory_.value<uint32_t>(layout_.block_count_at).value_or(0);
  for (uint32_t i = 0; i < std::min(blocks, layout_.max_blocks); ++i) {
    exclude(memory_.value<uint64_t>(layout_.blocks_at + uint64_t{i} * 8).value_or(0),
            layout_.block_bytes);
  }
  for (uint32_t i = 0; i < std::min(layout_.cached_entries, 65536U); ++i) {
    const uint64_t entry = layout_.cached_at + uint64_t{i} * layout_.cached_entry_bytes;
    exclude(memory_.value<uint64_t>(entry + layout_.cached_address).value_or(0),
            memory_.value<uint64_t>(entry + layout_.cached_size).value_or(0));
  }
  uint64_t block = memory_.value<uint64_t>(layout_.meta_head_at).value_or(0);
  for (size_t i = 0; block != 0 && i < kMostMetaBlocks; ++i) {
    struct {
      uint64_t next, bytes;
    } head{};
    if (memory_.read(block, &head, sizeof(head)) != sizeof(head)) {
      break;
    }
    exclude(block, head.bytes);
    block = head.next;
  }
}

void RootFinder::find_modules() {
  for (const Mapping& mapping : mappings_) {
    if (mapping.executable && mapping.file.inode != 0) {
      modules_.insert(mapping.file);
      // It keeps copies of the registers of every thread that allocated.
      if (mapping.path.substr(mapping.path.rfind('/') + 1).starts_with("libunwind.so")) {
        own_modules_.insert(mapping.file);
      }
    }
  }
  // The shim is where one of its variables lies: behind the last mapping of its file.
  const Mapping* variable = mapping_of(mappings_, layout_.window_base_at);
  for (const Mapping* at = variable; at != nullptr; at = at - 1) {
    if (at->file.inode != 0) {
      own_modules_.insert(at->file);
    }
    if (at->file.inode != 0 || at == mappings_.data() || (at - 1)->end != at->begin) {
      break;
    }
  }
}

void RootFinder::read_modules() {
  for (const Mapping& mapping : mappings_) {
    if (mapping.file.inode == 0 || !modules_.contains(mapping.file)) {
      continue;
    }
    const std::optional<LoadedModule> module = read_loaded_module(memory_, mapping.begin);
    if (!module) {
      continue;
    }
    const bool own = own_modules_.contains(mapping.file);
    for (const RootRange& range : module->data) {
      if (own) {
        exclude(range.begin, range.end - range.begin);
      } else {
        add_mapped(range);
      }
    }
    storage_bytes_ += module->storage_bytes;
    add_loader(module->loader_structs);
  }
}

// The loader's list of modules begins in memory of its own, and goes on in the heap once libc is
// there. Objects that it allocated count as roots only where their stacks are known.
void RootFinder::add_loader(uint64_t structs) {
  constexpr uint64_t kFirst = 8;
  constexpr uint64_t kNext = 24;
  constexpr uint64_t kBytes = 1144;  // of a list element, in glibc 2.36
  uint64_t at = structs == 0 ? 0 : memory_.value<uint64_t>(structs + kFirst).value_or(0);
  for (size_t i = 0; at != 0 && i < kMostLinkMaps; ++i) {
    add_mapped({at, saturating_sum(at, kBytes)});
    at = memory_.value<uint64_t>(at + kNext).value_or(0);
  }
}

void RootFinder::add_threads() {
  ThreadRoots found = find_thread_roots(memory_, mappings_, threads_, storage_bytes_);
  roots_.words.insert(roots_.words.end(), found.words.begin(), found.words.end());
  for (const RootRange& range : found.ranges) {
    add(range.begin, range.end);
  }
  unused_until_ = std::move(found.unused_until);
}

void RootFinder::add_anonymous(const Mapping& mapping) {
  const bool data = mapping.readable && mapping.writable && !mapping.shared;
  if (mapping.file.inode != 0 || mapping.path == "[stack]" || !data) {
    return;
  }
  const auto of_thread = unused_until_.find(&mapping);
  if (of_thread != unused_until_.end()) {
    add(std::max(mapping.begin, of_thread->second), mapping.end);
  } else if (const std::optional<uint64_t> block = ended_thread(mapping)) {
    roots_.words.push_back(memory_.value<uint64_t>(*block + kWord).value_or(0));
    add(end_of_thread(*block), mapping.end);
  } else {
    add(mapping.begin, mapping.end);
  }
}

// What is mapped of a range that a file claims.
void RootFinder::add_mapped(const RootRange& range) {
  for (const Mapping& mapping : mappings_) {
    if (mapping.readable && !mapping.shared && mapping.begin < range.end &&
        mapping.end > range.begin) {
      add(std::max(mapping.begin, range.begin), std::min(mapping.end, range.end));
    }
  }
}

// The thread block of an ended thread whose stack this mapping is: a guard page lies below, and
// near the top are the two words by which a thread block names itself.
std::optional<uint64_t> RootFinder::ended_thread(const Mapping& mapping) const {
  if (!has_guard(mappings_, mapping)) {
    return std::nullopt;
  }
  constexpr uint64_t kTop = 65536;
  constexpr uint64_t kSelf = 16;  // offset of the second of the two
  const uint64_t bytes = std::min(kTop, mapping.end - mapping.begin);
  std::vector<uint64_t> words(bytes / kWord);
  const uint64_t begin = mapping.end - words.size() * kWord;
  words.resize(memory_.read(begin, words.data(), words.size() * kWord) / kWord);
  for (size_t at = 0; at + kSelf / kWord < words.size(); ++at) {
    const uint64_t address = begin + at * kWord;
    if (words[at] == address && words[at + kSelf / kWord] == address) {
      return address;
    }
  }
  return std::nullopt;
}

void RootFinder::subtract_excluded() {
  const auto by_begin = [](const RootRange& a, const RootRange& b) { return a.begin < b.begin; };
  std::sort(excluded_.begin(), excluded_.end(), by_begin);
  std::sort(roots_.ranges.begin(), roots_.ranges.end(), by_begin);
  std::vector<RootRange> kept;
  uint64_t done = 0;  // everything below is in `kept`, or excluded
  auto next = excluded_.begin();
  for (const RootRange& range : roots_.ranges) {
    uint64_t at = std::max(range.begin, done);
    while (at < range.end) {
      while (next != excluded_.end() && next->end <= at) {
        ++next;
      }
      const uint64_t hole = next == excluded_.end() ? UINT64_MAX : next->begin;
      if (hole > at) {
        kept.push_back({at, std::min(hole, range.end)});
      }
      at = hole >= range.end ? range.end : std::max(at, next->end);
    }
    done = std::max(done, range.end);
  }
  roots_.ranges = std::move(kept);
}

}  // namespace

Roots find_roots(const MemorySource& memory, const abi::HeapLayout& layout,
                 const std::vector<Mapping>& mappings, const std::vector<ThreadContext>& threads,
                 const HeapImage& heap, RootSet set) {
  return RootFinder(memory, layout, mappings, threads, heap).find(set);
}

}  // namespace slabscope
