// SPDX-License-Identifier: MIT
//
// docs/abi.md against the layout: who follows the page must find what it says.

#include <gtest/gtest.h>

#include <cstddef>
#include <fstream>
#include <sstream>
#include <string>

#include "diag/abi/layout.h"

namespace slabscope {
namespace {

std::string page() {
  std::ifstream file(SLABSCOPE_GOLDEN "/../../docs/abi.md");
  return {std::istreambuf_iterator<char>(file), {}};
}

void expect_field(const std::string& text, size_t offset, const std::string& name) {
  std::istringstream lines(text);
  const std::string begin = "| " + std::to_string(offset) + " | ";
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(begin) && line.find("`" + name + "`") != std::string::npos) {
      return;
    }
  }
  ADD_FAILURE() << "docs/abi.md has no field " << name << " at " << offset;
}

TEST(AbiDoc, FieldsLieWhereThePageSays) {
  const std::string text = page();
#define SC_FIELD(record, name) expect_field(text, offsetof(abi::record, name), #name)
  SC_FIELD(Header, magic);
  SC_FIELD(Header, layout_hash);
  SC_FIELD(Header, file_bytes);
  SC_FIELD(Header, start_realtime_ns);
  SC_FIELD(Header, end_monotonic_ns);
  SC_FIELD(Header, state);
  SC_FIELD(Header, pid);
  SC_FIELD(Header, track_mode);
  SC_FIELD(Header, comm);
  SC_FIELD(Header, app);
  SC_FIELD(Header, exe);
  SC_FIELD(Header, sections);
  SC_FIELD(Header, window_base);
  SC_FIELD(Header, track_switches);
  SC_FIELD(Header, events);
  SC_FIELD(Header, peak_epoch);
  SC_FIELD(Header, groups);
  SC_FIELD(Header, counters);
  SC_FIELD(Section, offset);
  SC_FIELD(Section, record_bytes);
  SC_FIELD(Section, used);
  SC_FIELD(CacheRecord, kind);
  SC_FIELD(CacheRecord, object_size);
  SC_FIELD(CacheRecord, objects_per_slab);
  SC_FIELD(CacheRecord, name);
  SC_FIELD(CacheRecord, stats);
#undef SC_FIELD
}

TEST(AbiDoc, SectionsLieWhereThePageSays) {
  const std::string text = page();
  for (const uint64_t offset :
       {abi::kCachesOffset, abi::kModulesOffset, abi::kStringsOffset, abi::kDepotOffset,
        abi::kGroupsOffset, abi::kEventsOffset, abi::kPeaksOffset, uint64_t{abi::kMailboxOffset},
        abi::kObjectsOffset, abi::kThreadsOffset, abi::kFileBytes}) {
    std::ostringstream cell;
    cell << "| 0x" << std::hex << offset << " |";
    EXPECT_NE(text.find(cell.str()), std::string::npos) << cell.str();
  }
}

TEST(AbiDoc, EachCounterHasItsEntry) {
  const std::string text = page();
#define COUNTER(name, kind, unit, level, help)                                      \
  EXPECT_NE(text.find("### " #name "\n\nWhat: " help), std::string::npos) << #name; \
  EXPECT_NE(text.find("Kind: " #kind " · Unit: " #unit " · Level: " #level), std::string::npos);
#include "diag/abi/counters.def"
#undef COUNTER
}

}  // namespace
}  // namespace slabscope
