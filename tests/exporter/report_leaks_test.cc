// SPDX-License-Identifier: MIT
//
// Reports of a leak check: classes, what hangs on what, and what is suppressed.

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "exporter/output/report.h"
#include "tests/exporter/golden.h"
#include "tests/exporter/heap_fixture.h"

namespace slabscope {
namespace {

using testing::expect_golden;
using testing::HeapBuilder;
using testing::kProgram;

constexpr uint64_t kList = kProgram + 0x1111;   // definite: 2 heads of 48 bytes
constexpr uint64_t kNode = kProgram + 0x2222;   // indirect: 3 of 64, below the heads and the tree
constexpr uint64_t kTree = kProgram + 0x3333;   // definite: 1 of 100
constexpr uint64_t kCycle = kProgram + 0x4444;  // indirect: 2 of 80, each other's
constexpr uint64_t kKept = kProgram + 0x5555;   // reachable: 5 of 16

// What a check finds there:
//   head 0 ─► node 3 ─► node 4     head 1      tree 2 ─► node 5     cycle 6 ◄─► cycle 7
class Checked {
 public:
  Checked() {
    heap.add_cache(7, "malloc-64", 64, 13);
    add(LeakClass::kDefinite, kList, 2, 48);
    add(LeakClass::kDefinite, kTree, 1, 100);
    add(LeakClass::kIndirect, kNode, 3, 64);
    add(LeakClass::kIndirect, kCycle, 2, 80);
    add(LeakClass::kReachable, kKept, 5, 16);
    check.pause = std::chrono::milliseconds(5);
    check.lost.group = {0, 0, 1, 2, 2, 2, 3, 3};
    check.lost.bytes = {48, 48, 100, 64, 64, 64, 80, 80};
    check.lost.first = {0, 1, 1, 2, 3, 3, 3, 4, 5};
    check.lost.targets = {3, 5, 4, 7, 6};
  }

  LeakReport report(const std::vector<std::string>& patterns = {}, uint64_t min_bytes = 0) const {
    ReportOptions options;
    options.suppressions.patterns = patterns;
    options.min_bytes = min_bytes;
    Symbolizer symbolizer;
    return build_report(heap.snapshot, symbolizer, options, &check);
  }

  HeapBuilder heap;
  LeakCheck check;

 private:
  // Each site is in a module of its own, so that a pattern can name it.
  void add(LeakClass leak_class, uint64_t site, uint64_t objects, uint64_t size) {
    const uint64_t module = 0x600000000000 + (site & 0xffff) * 0x10000;
    const std::string name = site == kList   ? "/srv/app/list.so"
                             : site == kNode ? "/srv/app/node.so"
                             : site == kTree ? "/srv/app/tree.so"
                             : site == kKept ? "/srv/app/kept.so"
                                             : "/srv/app/cycle.so";
    heap.add_module(name, module, 0x11);
    heap.snapshot.modules.back().end = module + 0x10000;
    LeakGroup group;
    group.leak_class = leak_class;
    group.stack = heap.add_stack({module + (site & 0xffff), kProgram + 0x100});
    group.cache = 7;
    group.objects = objects;
    group.bytes = objects * size;
    group.smallest = size;
    group.largest = size;
    check.groups.push_back(group);
  }
};

const LeakEntry* entry_of(const LeakReport& report, const std::string& module) {
  for (const LeakEntry& entry : report.leaks) {
    if (entry.stack.front().module == "/srv/app/" + module + ".so") {
      return &entry;
    }
  }
  return nullptr;
}

ReportOptions leaks_options() {
  ReportOptions options;
  options.target_hint = "4711";
  return options;
}

TEST(LeakReport, AnIndirectLeakNamesWhatItHangsOn) {
  const LeakReport report = Checked().report();
  const LeakEntry& node = *entry_of(report, "node");
  ASSERT_EQ(node.owners.size(), 2U);
  EXPECT_EQ(&report.leaks[*node.owners[0].leak], entry_of(report, "list"));
  EXPECT_EQ(node.owners[0].held, (ObjectTotals{2, 128}));
  EXPECT_EQ(&report.leaks[*node.owners[1].leak], entry_of(report, "tree"));
  EXPECT_EQ(node.owners[1].held, (ObjectTotals{1, 64}));
  EXPECT_EQ(node.in_cycles, ObjectTotals());
  EXPECT_EQ(entry_of(report, "list")->holds, (ObjectTotals{2, 128}));
  EXPECT_TRUE(entry_of(report, "cycle")->owners.empty());
  EXPECT_EQ(entry_of(report, "cycle")->in_cycles, (ObjectTotals{2, 160}));
}

TEST(LeakReport, AnOwnerThatIsNotListedIsNoIndex) {
  const LeakReport report = Checked().report({}, 97);
  EXPECT_EQ(entry_of(report, "list"), nullptr);
  const LeakEntry& node = *entry_of(report, "node");
  ASSERT_EQ(node.owners.size(), 2U);
  EXPECT_FALSE(node.owners[0].leak.has_value());
  EXPECT_EQ(node.owners[1].leak, 0U);
}

TEST(LeakReport, WhatASuppressedLeakLeadsToIsSuppressed) {
  const LeakReport report = Checked().report({"list.so"});
  EXPECT_EQ(entry_of(report, "list"), nullptr);
  EXPECT_EQ(entry_of(report, "node")->objects, 1U);
  EXPECT_EQ(entry_of(report, "node")->bytes, 64U);
  EXPECT_EQ(report.checked->definite, (ObjectTotals{1, 100}));
  EXPECT_EQ(report.checked->indirect, (ObjectTotals{3, 224}));
  EXPECT_EQ(report.checked->reachable, (ObjectTotals{5, 80}));
  ASSERT_EQ(report.suppressed.size(), 1U);
  EXPECT_EQ(report.suppressed[0].pattern, "list.so");
  EXPECT_EQ(report.suppressed[0].taken, (ObjectTotals{4, 224}));
  EXPECT_TRUE(has_leaks(report));
}

TEST(LeakReport, TheFirstPatternThatMatchesTakesIt) {
  const LeakReport report = Checked().report({"nothing", "/srv/app/node", "*.so$"});
  ASSERT_EQ(report.suppressed.size(), 2U);
  EXPECT_EQ(report.suppressed[0].taken, (ObjectTotals{3, 192}));
  EXPECT_EQ(report.suppressed[1].taken, (ObjectTotals{5, 356}));
  EXPECT_FALSE(has_leaks(report)) << "all is suppressed";
  EXPECT_EQ(report.checked->reachable.objects, 5U) << "what is not lost cannot be suppressed";
  const std::string text = report_text(report, leaks_options());
  EXPECT_NE(text.find("nothing is lost but what is suppressed"), text.npos) << text;
}

TEST(LeakReport, WithoutACheckStacksAreSuppressedByThemselves) {
  Checked checked;
  checked.check.refused = "the kernel forbids it";
  checked.heap.add_objects(2, 48, checked.check.groups[0].stack);
  const LeakReport open = checked.report();
  EXPECT_TRUE(has_leaks(open));
  const LeakReport report = checked.report({"list"});
  EXPECT_TRUE(report.leaks.empty());
  EXPECT_EQ(suppressed_total(report), (ObjectTotals{2, 96}));
  EXPECT_FALSE(has_leaks(report));
}

TEST(LeakReport, Text) {
  expect_golden("leaks_owners.txt", report_text(Checked().report(), leaks_options()));
  expect_golden("leaks_suppressed.txt",
                report_text(Checked().report({"list.so", "cycle"}), leaks_options()));
}

TEST(LeakReport, Json) {
  const std::string json = report_json(Checked().report({"tree.so"}));
  EXPECT_TRUE(nlohmann::json::accept(json));
  expect_golden("leaks_suppressed.json", json);
}

}  // namespace
}  // namespace slabscope
