// SPDX-License-Identifier: MIT

#include "exporter/analysis/heap_image.h"

#include <algorithm>
#include <iterator>

#include "exporter/analysis/heap_reader.h"

namespace slabscope {

Result<HeapImage> HeapImage::read(const MemorySource& memory, const abi::HeapLayout& layout,
                                  const std::vector<Mapping>& mappings) {
  HeapReader reader(memory, layout, mappings);
  for (const auto step :
       {&HeapReader::read_window, &HeapReader::read_huge, &HeapReader::read_threads}) {
    if (std::optional<Failure> failure = (reader.*step)()) {
      return *failure;
    }
  }
  return reader.take();
}

uint32_t HeapImage::run_of(uint64_t slot) const {
  // Slots are numbered as runs are found.
  const auto after =
      std::upper_bound(runs_.begin(), runs_.end(), slot,
                       [](uint64_t wanted, const HeapRun& run) { return wanted < run.first_slot; });
  return static_cast<uint32_t>(std::distance(runs_.begin(), after) - 1);
}

uint32_t HeapImage::find_outside(uint64_t address) const {
  const auto after =
      std::upper_bound(outside_.begin(), outside_.end(), address,
                       [this](uint64_t wanted, uint32_t run) { return wanted < runs_[run].begin; });
  if (after == outside_.begin()) {
    return kNoRun;
  }
  const uint32_t run = *std::prev(after);
  return address - runs_[run].begin < runs_[run].bytes ? run : kNoRun;
}

}  // namespace slabscope
