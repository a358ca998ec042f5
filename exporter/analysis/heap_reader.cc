// SPDX-License-Identifier: MIT

#include "exporter/analysis/heap_reader.h"

#include <algorithm>
#include <cstring>

namespace slabscope {
namespace {

// A field of a record that was read whole.
template <typename T>
T field(const std::vector<std::byte>& record, uint64_t offset) {
  T value{};
  if (offset + sizeof(T) <= record.size()) {
    std::memcpy(&value, record.data() + offset, sizeof(T));
  }
  return value;
}

bool fits(uint32_t offset, uint32_t bytes, uint32_t record) {
  return offset <= record && bytes <= record - offset;
}

}  // namespace

bool HeapReader::sane_layout() const {
  const abi::HeapLayout& l = layout_;
  return l.chunk_shift >= 12 && l.chunk_shift <= 30 && l.chunks_per_segment > 0 &&
         l.chunks_per_segment <= 1U << 20 && l.chunk_bytes > 0 &&
         l.chunk_bytes <= kMostRecordBytes && fits(l.chunk_kind, 1, l.chunk_bytes) &&
         fits(l.chunk_length, 4, l.chunk_bytes) && fits(l.chunk_slab, 8, l.chunk_bytes) &&
         l.slab_bytes <= kMostRecordBytes && fits(l.slab_word, 8, l.slab_bytes) &&
         fits(l.slab_cache, 8, l.slab_bytes) && fits(l.slab_base, 8, l.slab_bytes) &&
         fits(l.slab_first_chunk, 4, l.slab_bytes) && l.cache_bytes <= kMostRecordBytes &&
         fits(l.cache_id, 4, l.cache_bytes) && fits(l.cache_object_size, 4, l.cache_bytes) &&
         fits(l.cache_slab_chunks, 4, l.cache_bytes) && fits(l.cache_capacity, 4, l.cache_bytes) &&
         fits(l.cache_tracked, 1, l.cache_bytes) && l.slot_bytes > 0 && l.slot_bytes <= 1U << 24 &&
         l.slots_per_block > 0 && l.max_blocks <= 1U << 20 && l.slots_per_block <= 1U << 16 &&
         l.bin_bytes >= 8 && l.id_limit <= l.slot_bytes / l.bin_bytes &&
         fits(l.slot_slow, 8, l.slot_bytes) && fits(l.slot_object_slow, 8, l.slot_bytes) &&
         l.slow_limit <= 1U << 16 && l.slow_bytes <= kMostRecordBytes &&
         fits(l.slow_reserve, 8, l.slow_bytes) && fits(l.slow_tracked_reserve, 8, l.slow_bytes) &&
         l.huge_entry_bytes > 0 && l.huge_entry_bytes <= kMostRecordBytes &&
         fits(l.huge_address, 8, l.huge_entry_bytes) && fits(l.huge_size, 8, l.huge_entry_bytes);
}

bool HeapReader::is_mapped(uint64_t begin, uint64_t bytes) const {
  const Mapping* mapping = mapping_of(mappings_, begin);
  return mapping != nullptr && bytes != 0 && begin + bytes > begin;
}

// ---- the window: slabs and large blocks ---------------------------------------------------------

std::optional<Failure> HeapReader::read_window() {
  if (!sane_layout()) {
    return Failure{ErrorCode::kCorrupt, "the description of its heap contradicts itself"};
  }
  const auto base = memory_.value<uint64_t>(layout_.window_base_at);
  const auto limit = memory_.value<uint64_t>(layout_.chunk_limit_at);
  const auto segments = memory_.value<uint64_t>(layout_.segments_at);
  if (!base || !limit || !segments || *limit > kMostChunks ||
      *limit / layout_.chunks_per_segment > kMostSegments) {
    return Failure{ErrorCode::kCorrupt, "its page map cannot be read"};
  }
  image_.chunk_shift_ = layout_.chunk_shift;
  image_.chunks_per_segment_ = layout_.chunks_per_segment;
  image_.window_begin_ = *base;
  image_.window_bytes_ = *limit << layout_.chunk_shift;
  const uint64_t count = *limit / layout_.chunks_per_segment;
  constexpr uint64_t kAtOnce = 8192;
  std::vector<uint64_t> pointers;
  for (uint64_t first = 0; first < count && !full_; first += kAtOnce) {
    pointers.assign(std::min(kAtOnce, count - first), 0);
    memory_.read(*segments + first * sizeof(uint64_t), pointers.data(),
                 pointers.size() * sizeof(uint64_t));
    for (size_t i = 0; i < pointers.size() && !full_; ++i) {
      if (pointers[i] != 0) {
        read_segment(first + i, pointers[i]);
      }
    }
  }
  if (full_) {
    return Failure{ErrorCode::kCorrupt, "its heap has more objects than can be looked at"};
  }
  return std::nullopt;
}

void HeapReader::read_segment(uint64_t segment, uint64_t table) {
  const uint64_t first = segment * layout_.chunks_per_segment;
  if (!is_mapped(image_.window_begin_ + (first << layout_.chunk_shift), 1)) {
    ++image_.damaged_;
    return;
  }
  std::vector<std::byte> records(uint64_t{layout_.chunks_per_segment} * layout_.chunk_bytes);
  const size_t got = memory_.read(table, records.data(), records.size());
  for (uint64_t i = 0; i < got / layout_.chunk_bytes && !full_; ++i) {
    const uint64_t at = i * layout_.chunk_bytes;
    const auto kind = field<uint8_t>(records, at + layout_.chunk_kind);
    if (image_.run_at(first + i) != HeapImage::kNoRun) {
      continue;  // inside the run before
    }
    if (kind == layout_.kind_large) {
      add_large(first + i, field<uint32_t>(records, at + layout_.chunk_length));
    } else if (kind == layout_.kind_slab) {
      add_slab(first + i, field<uint64_t>(records, at + layout_.chunk_slab));
    }
  }
}

// The run's number; nothing if it does not fit in.
std::optional<uint32_t> HeapReader::add_run(HeapRun run) {
  if (image_.states_.size() + run.capacity > kMostSlots) {
    full_ = true;
    return std::nullopt;
  }
  const auto number = static_cast<uint32_t>(image_.runs_.size());
  run.first_slot = image_.states_.size();
  const uint64_t offset = run.begin - image_.window_begin_;
  if (offset < image_.window_bytes_) {
    const uint64_t first = offset >> layout_.chunk_shift;
    const uint64_t end =
        (offset + run.bytes + (uint64_t{1} << layout_.chunk_shift) - 1) >> layout_.chunk_shift;
    for (uint64_t chunk = first; chunk < end; ++chunk) {
      const uint64_t segment = chunk / layout_.chunks_per_segment;
      if (image_.segments_.size() <= segment) {
        image_.segments_.resize(segment + 1);
      }
      auto& runs = image_.segments_[segment];
      if (runs.empty()) {
        runs.assign(layout_.chunks_per_segment, HeapImage::kNoRun);
      }
      runs[chunk % layout_.chunks_per_segment] = number;
    }
  } else {
    image_.outside_.push_back(number);
  }
  image_.states_.resize(image_.states_.size() + run.capacity, SlotState::kFree);
  image_.runs_.push_back(run);
  return number;
}

void HeapReader::add_large(uint64_t chunk, uint64_t length) {
  const uint64_t begin = image_.window_begin_ + (chunk << layout_.chunk_shift);
  const uint64_t limit = image_.window_bytes_ >> layout_.chunk_shift;
  if (length == 0 || length > limit - chunk ||
      !is_mapped(begin + ((length - 1) << layout_.chunk_shift), 1)) {
    ++image_.damaged_;
    return;
  }
  HeapRun run;
  run.begin = begin;
  run.bytes = run.object_size = length << layout_.chunk_shift;
  run.capacity = 1;
  run.cache = layout_.large_id;
  if (const auto number = add_run(run)) {
    image_.states_[image_.runs_[*number].first_slot] = SlotState::kLive;
  }
}

const HeapReader::CacheShape& HeapReader::cache_at(uint64_t address) {
  static const CacheShape kNone;
  const auto known = caches_.find(address);
  if (known != caches_.end()) {
    return known->second;
  }
  if (caches_.size() >= kMostCaches) {
    return kNone;
  }
  CacheShape shape;
  std::vector<std::byte> record(layout_.cache_bytes);
  if (memory_.read(address, record.data(), record.size()) == record.size()) {
    shape.id = field<uint32_t>(record, layout_.cache_id);
    shape.object_size = field<uint32_t>(record, layout_.cache_object_size);
    shape.slab_chunks = field<uint32_t>(record, layout_.cache_slab_chunks);
    shape.capacity = field<uint32_t>(record, layout_.cache_capacity);
    shape.tracked = field<uint8_t>(record, layout_.cache_tracked) != 0;
    shape.valid = shape.object_size >= sizeof(uint64_t) && shape.slab_chunks > 0 &&
                  shape.capacity > 0 && shape.slab_chunks <= 1U << 16 &&
                  uint64_t{shape.capacity} * shape.object_size <= uint64_t{shape.slab_chunks}
                                                                      << layout_.chunk_shift;
  }
  return caches_.emplace(address, shape).first->second;
}

void HeapReader::add_slab(uint64_t chunk, uint64_t slab) {
  std::vector<std::byte> record(layout_.slab_bytes);
  if (memory_.read(slab, record.data(), record.size()) != record.size()) {
    ++image_.damaged_;
    return;
  }
  const uint64_t cache_address = field<uint64_t>(record, layout_.slab_cache);
  if (cache_address == 0) {
    return;  // on its way back to the page heap: nothing of it is in use
  }
  const CacheShape& cache = cache_at(cache_address);
  const uint64_t word = field<uint64_t>(record, layout_.slab_word);
  const uint64_t head = word & 0xffff;
  const uint64_t count = word >> 16 & 0xffff;
  const uint64_t carved = word >> 32 & 0xffff;
  HeapRun run;
  run.begin = image_.window_begin_ + (chunk << layout_.chunk_shift);
  const uint64_t limit = image_.window_bytes_ >> layout_.chunk_shift;
  if (!cache.valid || field<uint32_t>(record, layout_.slab_first_chunk) != chunk ||
      field<uint64_t>(record, layout_.slab_base) != run.begin ||
      cache.slab_chunks > limit - chunk || carved > cache.capacity || count > carved) {
    ++image_.damaged_;
    return;
  }
  run.bytes = uint64_t{cache.slab_chunks} << layout_.chunk_shift;
  if (!is_mapped(run.begin + run.bytes - 1, 1)) {
    ++image_.damaged_;
    return;
  }
  run.object_size = cache.object_size;
  run.capacity = cache.capacity;
  run.cache = cache.id;
  run.tracked = cache.tracked;
  const auto number = add_run(run);
  if (!number) {
    return;
  }
  const HeapRun& added = image_.runs_[*number];
  std::fill_n(image_.states_.begin() + static_cast<ptrdiff_t>(added.first_slot), carved,
              SlotState::kLive);
  free_chain(added, head, count);
}

// The objects that are back in the slab, linked through their first words.
void HeapReader::free_chain(const HeapRun& run, uint64_t head, uint64_t count) {
  if (count == 0) {
    return;
  }
  std::vector<std::byte> bytes(run.bytes);
  bytes.resize(memory_.read(run.begin, bytes.data(), bytes.size()));
  uint64_t index = head - 1;
  for (uint64_t i = 0; i < count; ++i) {
    if (index >= run.capacity || image_.states_[run.first_slot + index] != SlotState::kLive) {
      ++image_.damaged_;
      return;
    }
    image_.states_[run.first_slot + index] = SlotState::kFree;
    const uint64_t offset = field<uint64_t>(bytes, index * run.object_size) - run.begin;
    if (i + 1 < count && (offset >= run.bytes || offset % run.object_size != 0)) {
      ++image_.damaged_;
      return;
    }
    index = offset / run.object_size;
  }
}

// ---- mappings -------------------------------------------------------------------------------

std::optional<Failure> HeapReader::read_huge() {
  const auto entries = memory_.value<uint64_t>(layout_.huge_entries_at);
  const auto capacity = memory_.value<uint64_t>(layout_.huge_capacity_at);
  if (!entries || !capacity || *capacity > kMostHuge) {
    return Failure{ErrorCode::kCorrupt, "its table of mappings cannot be read"};
  }
  constexpr uint64_t kAtOnce = 1024;
  std::vector<std::byte> records;
  std::vector<HeapRun> found;
  for (uint64_t first = 0; first < *capacity; first += kAtOnce) {
    records.assign(std::min(kAtOnce, *capacity - first) * layout_.huge_entry_bytes, std::byte{});
    memory_.read(*entries + first * layout_.huge_entry_bytes, records.data(), records.size());
    for (uint64_t at = 0; at < records.size(); at += layout_.huge_entry_bytes) {
      HeapRun run;
      run.begin = field<uint64_t>(records, at + layout_.huge_address);
      run.bytes = run.object_size = field<uint64_t>(records, at + layout_.huge_size);
      run.capacity = 1;
      run.cache = layout_.large_id;
      if (run.begin == 0) {
        continue;
      }
      const bool inside = run.begin - image_.window_begin_ < image_.window_bytes_;
      if (inside || !is_mapped(run.begin, run.bytes) ||
          mapping_of(mappings_, run.begin + run.bytes - 1) == nullptr) {
        ++image_.damaged_;
        continue;
      }
      found.push_back(run);
    }
  }
  std::sort(found.begin(), found.end(),
            [](const HeapRun& a, const HeapRun& b) { return a.begin < b.begin; });
  uint64_t end = 0;
  for (const HeapRun& run : found) {
    if (run.begin < end) {
      ++image_.damaged_;
      continue;
    }
    end = run.begin + run.bytes;
    if (const auto number = add_run(run)) {
      image_.states_[image_.runs_[*number].first_slot] = SlotState::kLive;
    }
  }
  return std::nullopt;
}

// ---- threads' lists -------------------------------------------------------------------------

std::optional<Failure> HeapReader::read_threads() {
  const auto blocks = memory_.value<uint32_t>(layout_.block_count_at);
  const auto slots = memory_.value<uint32_t>(layout_.slot_count_at);
  if (!blocks || !slots || *blocks > layout_.max_blocks) {
    return Failure{ErrorCode::kCorrupt, "its threads' lists cannot be read"};
  }
  const uint64_t count = std::min<uint64_t>(*slots, uint64_t{*blocks} * layout_.slots_per_block);
  std::vector<uint64_t> block_at(*blocks);
  memory_.read(layout_.blocks_at, block_at.data(), block_at.size() * sizeof(uint64_t));
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t block = block_at[i / layout_.slots_per_block];
    if (block != 0) {
      read_slot(block + i % layout_.slots_per_block * layout_.slot_bytes);
    }
  }
  return std::nullopt;
}

void HeapReader::read_slot(uint64_t slot) {
  std::vector<std::byte> bins(uint64_t{layout_.id_limit} * layout_.bin_bytes);
  bins.resize(memory_.read(slot, bins.data(), bins.size()));
  for (uint32_t id = 1; id < layout_.id_limit; ++id) {
    if (id - layout_.hidden_first >= layout_.hidden_count) {
      free_list(field<uint64_t>(bins, uint64_t{id} * layout_.bin_bytes));
    }
  }
  read_slow_records(slot + layout_.slot_slow, layout_.slow_limit);
  // Programs' own caches.
  const uint32_t limit = memory_.value<uint32_t>(layout_.object_limit_at).value_or(0);
  if (limit <= layout_.object_first || limit > layout_.slot_bytes / layout_.bin_bytes) {
    return;
  }
  const uint32_t count = limit - layout_.object_first;
  bins.assign(uint64_t{count} * layout_.bin_bytes, std::byte{0});
  bins.resize(memory_.read(slot + uint64_t{layout_.object_first} * layout_.bin_bytes, bins.data(),
                           bins.size()));
  for (uint64_t at = 0; at < bins.size(); at += layout_.bin_bytes) {
    free_list(field<uint64_t>(bins, at));
  }
  read_slow_records(slot + layout_.slot_object_slow, count);
}

// The lists in `count` slow records, to which a pointer at `pointer_at` leads.
void HeapReader::read_slow_records(uint64_t pointer_at, uint32_t count) {
  const auto slow = memory_.value<uint64_t>(pointer_at);
  if (!slow || *slow == 0) {
    return;
  }
  std::vector<std::byte> records(uint64_t{count} * layout_.slow_bytes);
  records.resize(memory_.read(*slow, records.data(), records.size()));
  for (uint64_t at = 0; at < records.size(); at += layout_.slow_bytes) {
    free_list(field<uint64_t>(records, at + layout_.slow_reserve));
    free_list(field<uint64_t>(records, at + layout_.slow_tracked_reserve));
  }
}

// Each step takes one live slot, so a list that bites its tail ends.
void HeapReader::free_list(uint64_t object) {
  while (object != 0) {
    const std::optional<HeapImage::Place> place = image_.find(object);
    if (!place || image_.address_of(image_.runs_[place->run], place->slot) != object) {
      ++image_.damaged_;
      return;
    }
    image_.states_[place->slot] = SlotState::kFree;
    object = memory_.value<uint64_t>(object).value_or(0);
  }
}

}  // namespace slabscope
