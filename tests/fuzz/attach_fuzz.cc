// SPDX-License-Identifier: MIT
//
// attach_fuzz: hostile scope files. The input is a list of writes into a valid file:
//
//   byte: section to aim at │ u16: offset within it │ byte: length │ that many bytes
//
// so that the fuzzer need not invent 1.7 GB, and so that headers which pass the checks are common.
//   cmake -S . -B build/fuzz -DCMAKE_CXX_COMPILER=clang++ -DSLABSCOPE_FUZZ=ON ...

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>

#include "exporter/output/json.h"
#include "exporter/output/prometheus.h"
#include "exporter/source/attach.h"
#include "exporter/source/object_summary.h"
#include "tests/support/segment_builder.h"

namespace {

using slabscope::testing::ScopeFile;
using slabscope::testing::ScratchDirectory;
using slabscope::testing::SegmentBuilder;
namespace abi = slabscope::abi;

constexpr uint64_t kTargets[] = {0,
                                 offsetof(abi::Header, sections),
                                 abi::kCachesOffset,
                                 abi::kModulesOffset,
                                 abi::kStringsOffset,
                                 abi::kDepotOffset,
                                 abi::kDepotOffset + abi::kDepotBuckets * sizeof(uint32_t),
                                 abi::kObjectsOffset,
                                 abi::kThreadsOffset,
                                 abi::kThreadsOffset + offsetof(abi::ThreadSlot, counters)};

ScopeFile valid_file(ScratchDirectory& scratch) {
  SegmentBuilder builder;
  builder.add_cache(1, "malloc-16", 16);
  builder.add_cache(700, "session", 208);
  builder.count(0, 1, 10, 3);
  builder.count(0, 700, 5, 5);
  builder.add_module("/usr/bin/demo", 0x1000, 0x9000);
  const uint32_t stack = builder.add_stack({0x1100, 0x1200}, 7, 112);
  builder.add_stack({0x1300}, 1, 16);
  builder.add_object(0x5000, 16, stack, 1);
  return builder.write(scratch, "fuzz.scope");
}

void apply(ScopeFile& file, const uint8_t* data, size_t size) {
  while (size >= 4) {
    uint16_t offset = 0;
    std::memcpy(&offset, data + 1, sizeof(offset));
    const size_t length = std::min<size_t>(data[3], size - 4);
    file.write(kTargets[data[0] % std::size(kTargets)] + offset, data + 4, length);
    data += 4 + length;
    size -= 4 + length;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ScratchDirectory scratch;
  ScopeFile file = valid_file(scratch);
  apply(file, data, size);
  const auto snapshot = slabscope::attach(file.path(), slabscope::Include::kEverything);
  (void)slabscope::summarize_objects(file.path(), 1 << 16);
  if (snapshot) {
    (void)slabscope::dump(slabscope::snapshot_json(*snapshot));
    (void)slabscope::totals_of(*snapshot);
    (void)slabscope::free_bytes(*snapshot);
  }
  return 0;
}
