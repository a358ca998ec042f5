// SPDX-License-Identifier: MIT

#include "exporter/output/report.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <csignal>
#include <string>
#include <vector>

#include "exporter/analysis/stack_frames.h"
#include "exporter/base/clock.h"
#include "exporter/output/function_name.h"
#include "tests/exporter/golden.h"
#include "tests/exporter/heap_fixture.h"

namespace slabscope {
namespace {

using testing::expect_golden;
using testing::kLibrary;
using testing::kProgram;

constexpr uint64_t kShim = 0x7f1000000000;

// A process of which everything is known, and nothing lies on this host's disk.
class SnapshotBuilder {
 public:
  SnapshotBuilder() {
    TargetInfo& target = snapshot.target;
    target.state = TargetState::kExited;
    target.pid = 4711;
    target.parent_pid = 1;
    target.uid = 1000;
    target.comm = "leaky";
    target.exe = "/srv/app/leaky";
    target.shim_version = "0.1.0";
    target.path = "/run/slabscope/1700000000-4711-0.scope";
    target.start_realtime_ns = 1'700'000'000 * kSecondNs;
    target.start_monotonic_ns = 100 * kSecondNs;
    target.end_monotonic_ns = 102 * kSecondNs + kSecondNs / 2;
    target.track_mode = abi::TrackMode::kAll;
    target.sample_interval = 1;
    add_module("/srv/app/leaky", kProgram, 0xaa);
    add_module("/lib/x86_64-linux-gnu/libc.so.6", kLibrary, 0xbb);
    add_module("/usr/lib/libslabscope.so.0.1", kShim, 0xcc);
  }

  void add_module(const std::string& path, uint64_t start, uint8_t id) {
    Module module;
    module.path = path;
    module.start = start;
    module.end = start + 0x1000000;
    module.bias = start;
    module.build_id.assign(20, id);
    snapshot.modules.push_back(module);
  }

  Cache& add_cache(uint32_t id, const std::string& name, uint32_t size, uint64_t allocations,
                   uint64_t frees) {
    Cache& cache = snapshot.caches.emplace_back();
    cache.id = id;
    cache.name = name;
    cache.object_size = size;
    cache.kind = size == 0 ? abi::CacheKind::kLarge : abi::CacheKind::kMalloc;
    cache.state = abi::CacheState::kLive;
    cache.allocations = allocations;
    cache.frees = frees;
    return cache;
  }

  uint32_t add_stack(const std::vector<uint64_t>& frames) {
    Stack& stack = snapshot.stacks.emplace_back();
    stack.handle = static_cast<uint32_t>(100 + snapshot.stacks.size());
    stack.frames = frames;
    return stack.handle;
  }

  void add_objects(size_t count, uint64_t size, uint32_t stack, uint16_t cache,
                   uint32_t interval = 1) {
    for (size_t i = 0; i < count; ++i) {
      snapshot.objects.push_back({next_ += 64, size, 101 * kSecondNs, stack, interval, cache});
    }
  }

  LeakReport build(const ReportOptions& options = {}) const {
    Symbolizer symbolizer;
    return build_report(snapshot, symbolizer, options);
  }

  Snapshot snapshot;

 private:
  uint64_t next_ = 0x10000;
};

SnapshotBuilder typical() {
  SnapshotBuilder builder;
  builder.add_cache(7, "malloc-112", 112, 1000, 0);
  builder.add_cache(9, "malloc-1024", 1024, 5, 4);
  builder.add_cache(3, "malloc-48", 48, 20, 20);
  builder.add_cache(64, "large", 0, 3, 2).stats.live_bytes = 300000;
  const uint32_t node = builder.add_stack(
      {kShim + 0x10, kShim + 0x20, kProgram + 0x1234, kProgram + 0x2000, kLibrary + 0x29d90});
  const uint32_t buffer = builder.add_stack({kShim + 0x10, kLibrary + 0x700});
  const uint32_t large = builder.add_stack({kProgram + 0x1300, kProgram + 0x2010});
  builder.add_objects(1000, 100, node, 7);
  builder.add_objects(1, 1024, buffer, 9);
  builder.add_objects(1, 300000, large, 64);
  return builder;
}

// ---- building -------------------------------------------------------------------------------

TEST(BuildReport, CountsExactlyWhenEverythingIsTracked) {
  const LeakReport report = typical().build();
  EXPECT_EQ(report.unchecked, (ObjectTotals{1002, 112000 + 1024 + 300000}));
  EXPECT_EQ(report.explained, (ObjectTotals{1002, 100000 + 1024 + 300000}));
  EXPECT_FALSE(report.estimated);
  ASSERT_EQ(report.leaks.size(), 3u);
  EXPECT_EQ(report.leaks[0].bytes, 300000u);
  EXPECT_EQ(report.leaks[1].objects, 1000u);
  EXPECT_EQ(report.leaks[1].bytes, 100000u);
  EXPECT_EQ(report.leaks[1].caches, std::vector<std::string>{"malloc-112"});
  EXPECT_EQ(report.leaks[1].leak_class, "unknown");
  EXPECT_TRUE(report.reachability.starts_with("not checked: "));
  ASSERT_EQ(report.caches.size(), 4u);
  EXPECT_EQ(report.caches[0].cache.name, "large");
  EXPECT_EQ(report.caches[3].cache.name, "malloc-48");
  EXPECT_TRUE(has_leaks(report));
}

TEST(BuildReport, LeavesOutTheAllocatorsOwnFrames) {
  const LeakReport report = typical().build();
  ASSERT_EQ(report.leaks[1].stack.size(), 3u);
  EXPECT_EQ(report.leaks[1].stack[0].module, "/srv/app/leaky");
  EXPECT_EQ(report.leaks[1].stack[0].offset, 0x1234u);
}

TEST(BuildReport, KeepsAStackThatIsAllAllocator) {
  SnapshotBuilder builder;
  builder.add_cache(7, "malloc-112", 112, 1, 0);
  builder.add_objects(1, 100, builder.add_stack({kShim + 1, kShim + 2}), 7);
  const LeakReport report = builder.build();
  ASSERT_EQ(report.leaks[0].stack.size(), 1u);
  EXPECT_EQ(report.leaks[0].stack[0].offset, 2u);
}

TEST(BuildReport, MergesStacksThatLookTheSame) {
  SnapshotBuilder builder;
  builder.add_cache(7, "malloc-112", 112, 3, 0);
  builder.add_cache(8, "malloc-128", 128, 1, 0);
  // The same program frames below different entry points of the allocator.
  builder.add_objects(2, 100, builder.add_stack({kShim + 0x10, kProgram + 5}), 7);
  builder.add_objects(1, 90, builder.add_stack({kShim + 0x99, kProgram + 5}), 7);
  builder.add_objects(1, 120, builder.add_stack({kShim + 0x99, kShim + 0x9, kProgram + 5}), 8);
  const LeakReport report = builder.build();
  ASSERT_EQ(report.leaks.size(), 1u);
  EXPECT_EQ(report.leaks[0].objects, 4u);
  EXPECT_EQ(report.leaks[0].bytes, 410u);
  EXPECT_EQ(report.leaks[0].smallest, 90u);
  EXPECT_EQ(report.leaks[0].largest, 120u);
  EXPECT_EQ(report.leaks[0].caches, (std::vector<std::string>{"malloc-112", "malloc-128"}));
}

TEST(BuildReport, WeighsSamples) {
  SnapshotBuilder builder;
  builder.snapshot.target.track_mode = abi::TrackMode::kSampled;
  builder.snapshot.target.sample_interval = 1000;
  builder.add_cache(7, "malloc-112", 112, 500, 0);
  builder.add_objects(10, 100, builder.add_stack({kProgram + 5}), 7, 1000);
  const LeakReport report = builder.build();
  const double weight = 1 / (1 - std::exp(-0.1));
  EXPECT_TRUE(report.estimated);
  EXPECT_TRUE(report.leaks[0].estimated);
  EXPECT_EQ(report.leaks[0].samples, 10u);
  EXPECT_EQ(report.leaks[0].objects, static_cast<uint64_t>(std::llround(10 * weight)));
  EXPECT_EQ(report.leaks[0].bytes, static_cast<uint64_t>(std::llround(1000 * weight)));
  EXPECT_EQ(report.unchecked.objects, 500u) << "counts by cache stay exact";
}

TEST(BuildReport, TakesTheDepotsSumsWhenThereAreNoObjects) {
  SnapshotBuilder builder = typical();
  builder.snapshot.objects.clear();
  builder.snapshot.target.track_mode = abi::TrackMode::kSampled;
  Stack& stack = builder.snapshot.stacks[0];
  stack.live_objects = 4;
  stack.live_bytes = 400;
  stack.estimated_live_objects = 21000.5;
  stack.estimated_live_bytes = 2'100'000;
  const LeakReport report = builder.build();
  ASSERT_EQ(report.leaks.size(), 1u);
  EXPECT_EQ(report.leaks[0].samples, 4u);
  EXPECT_EQ(report.leaks[0].bytes, 2'100'000u);
}

TEST(BuildReport, MinBytesHidesButCounts) {
  ReportOptions options;
  options.min_bytes = 50'000;
  const LeakReport report = typical().build(options);
  EXPECT_EQ(report.leaks.size(), 2u);
  EXPECT_EQ(report.entries_below_min, 1u);
  EXPECT_EQ(report.below_min, (ObjectTotals{1, 1024}));
  EXPECT_EQ(report.explained.objects, 1002u);
  options.min_bytes = 1 << 30;
  EXPECT_FALSE(has_leaks(typical().build(options)));
}

TEST(BuildReport, ObjectsWithoutAStackAreListedButNotExplained) {
  SnapshotBuilder builder;
  builder.add_cache(7, "malloc-112", 112, 3, 0);
  builder.add_objects(2, 100, 0, 7);
  builder.add_objects(1, 100, builder.add_stack({kProgram + 5}), 7);
  const LeakReport report = builder.build();
  ASSERT_EQ(report.leaks.size(), 2u);
  EXPECT_TRUE(report.leaks[0].stack.empty());
  EXPECT_EQ(report.explained, (ObjectTotals{1, 100}));
  EXPECT_EQ(report.caches[0].explained, (ObjectTotals{1, 100}));
}

TEST(BuildReport, NothingLeft) {
  SnapshotBuilder builder;
  builder.add_cache(7, "malloc-112", 112, 10, 10);
  const LeakReport report = builder.build();
  EXPECT_FALSE(has_leaks(report));
  EXPECT_TRUE(report.leaks.empty());
}

TEST(BuildReport, AbsurdNumbersSaturate) {
  SnapshotBuilder builder;
  builder.add_cache(7, "huge", UINT32_MAX, UINT64_MAX / 2, 0);
  builder.add_cache(8, "large", 0, 1, 0).stats.live_bytes = UINT64_MAX;
  builder.add_cache(9, "negative", 16, 1, 5);
  const uint32_t stack = builder.add_stack({0, 1, UINT64_MAX});
  builder.add_objects(3, UINT64_MAX, stack, 7);
  builder.add_objects(1, 0, 9999, 4000, UINT32_MAX);
  const LeakReport report = builder.build();
  EXPECT_EQ(report.unchecked.bytes, UINT64_MAX);
  EXPECT_EQ(report.leaks[0].bytes, UINT64_MAX);
  EXPECT_FALSE(report_text(report, {}).empty());
  EXPECT_FALSE(nlohmann::json::parse(report_json(report)).empty());
}

TEST(BuildReport, BytesThatAreNoTextAreReplaced) {
  SnapshotBuilder builder;
  builder.snapshot.target.exe = "/srv/\033[31m\xff";
  builder.snapshot.modules[0].path = "/srv/evil\n\033]0;title\007\xc3";
  builder.add_cache(7, "malloc-112", 112, 1, 0);
  builder.add_objects(1, 100, builder.add_stack({kProgram + 5}), 7);
  const LeakReport report = builder.build();
  const std::string text = report_text(report, {});
  EXPECT_EQ(text.find('\033'), std::string::npos);
  EXPECT_EQ(text.find('\007'), std::string::npos);
  EXPECT_TRUE(nlohmann::json::accept(report_json(report)));
}

TEST(BuildReport, ReportsProgress) {
  SnapshotBuilder builder;
  builder.add_cache(7, "malloc-112", 112, 2000, 0);
  for (uint64_t i = 0; i < 2000; ++i) {
    builder.add_objects(1, 100, builder.add_stack({kProgram + 5 + i}), 7);
  }
  size_t calls = 0;
  ReportOptions options;
  options.progress = [&](size_t done, size_t total) {
    EXPECT_LE(done, total);
    ++calls;
  };
  EXPECT_EQ(builder.build(options).leaks.size(), 2000u);
  EXPECT_GT(calls, 1u);
}

// ---- writing --------------------------------------------------------------------------------

SymbolFrame frame(const std::string& function, const std::string& file, uint32_t line,
                  bool inlined = false) {
  SymbolFrame result;
  result.function = function;
  result.file = file;
  result.line = line;
  result.module = "/srv/app/leaky";
  result.offset = 0x1000 + line;
  result.build_id = std::string(40, 'a');
  result.inlined = inlined;
  return result;
}

// The typical report, with the names that debug information would have given.
LeakReport named_report() {
  LeakReport report = typical().build();
  const SymbolFrame start{
      "__libc_start_call_main", "",   0, "/lib/x86_64-linux-gnu/libc.so.6", 0x29d90, 0x80,
      std::string(40, 'b'),     false};
  const SymbolFrame entry{"_start", "", 0, "/srv/app/leaky", 0x1060, 0x21, std::string(40, 'a'),
                          false};
  report.leaks[0].stack = {
      frame("std::__new_allocator<char>::allocate(unsigned long, void const*)",
            "/usr/include/c++/12/bits/new_allocator.h", 137, true),
      frame("std::vector<app::Session, std::allocator<app::Session> >::_M_realloc_insert<app::"
            "Session const&>(__gnu_cxx::__normal_iterator<app::Session*, std::vector<app::Session, "
            "std::allocator<app::Session> > >, app::Session const&)",
            "/usr/include/c++/12/bits/vector.tcc", 440),
      frame("app::Server::open(std::__cxx11::basic_string<char, std::char_traits<char>, "
            "std::allocator<char> > const&)",
            "/home/dev/leaky/server.cc", 88),
      frame("main", "/home/dev/leaky/leaky.c", 30),
      start,
      entry};
  report.leaks[1].stack = {frame("make_node", "/home/dev/leaky/leaky.c", 14),
                           frame("main", "/home/dev/leaky/leaky.c", 30), start, entry};
  report.modules_without_lines = {"/srv/app/plugin.so"};
  report.modules_missing.clear();
  return report;
}

ReportOptions named_options() {
  ReportOptions options;
  options.source_root = "/home/dev/leaky";
  options.target_hint = "4711";
  return options;
}

TEST(ReportText, NamedStacks) {
  expect_golden("report_all.txt", report_text(named_report(), named_options()));
}

TEST(ReportText, ModulesAndOffsets) {
  ReportOptions options = named_options();
  options.top = 2;
  options.all_caches = true;
  expect_golden("report_no_symbols.txt", report_text(typical().build(), options));
}

TEST(ReportText, Samples) {
  SnapshotBuilder builder = typical();
  builder.snapshot.target.track_mode = abi::TrackMode::kSampled;
  builder.snapshot.target.sample_interval = 512 << 10;
  builder.snapshot.target.state = TargetState::kRunning;
  builder.snapshot.target.end_monotonic_ns = 0;
  builder.snapshot.target.read_monotonic_ns = 100 * kSecondNs + 90 * kSecondNs;
  builder.snapshot.objects.resize(3);
  for (LiveObject& object : builder.snapshot.objects) {
    object.interval = 512 << 10;
  }
  builder.snapshot.counters.dropped_objects = 12;
  builder.snapshot.counters.dropped_stacks = 1;
  expect_golden("report_sampled.txt", report_text(builder.build(), named_options()));
}

TEST(ReportText, TrackingOffAndKilled) {
  SnapshotBuilder builder = typical();
  builder.snapshot.target.track_mode = abi::TrackMode::kOff;
  builder.snapshot.target.sample_interval = 0;
  builder.snapshot.target.state = TargetState::kDied;
  builder.snapshot.target.end_monotonic_ns = 0;
  builder.snapshot.objects.clear();
  builder.snapshot.stacks.clear();
  expect_golden("report_off.txt", report_text(builder.build(), named_options()));
}

TEST(ReportText, AParentKnowsHowItEnded) {
  SnapshotBuilder builder = typical();
  builder.snapshot.target.state = TargetState::kDied;
  LeakReport report = builder.build();
  report.end = ChildEnd{false, 3};
  EXPECT_NE(report_text(report, named_options())
                .find("state     exited with 3, without running exit handlers"),
            std::string::npos);
  nlohmann::json target = nlohmann::json::parse(report_json(report))["target"];
  EXPECT_EQ(target["exit_code"], 3);
  EXPECT_TRUE(target["signal"].is_null());
  report.end = ChildEnd{true, SIGSEGV};
  EXPECT_NE(report_text(report, named_options()).find("state     killed by SIGSEGV"),
            std::string::npos);
  target = nlohmann::json::parse(report_json(report))["target"];
  EXPECT_TRUE(target["exit_code"].is_null());
  EXPECT_EQ(target["signal"], SIGSEGV);
}

TEST(ReportText, NothingLeft) {
  SnapshotBuilder builder;
  builder.add_cache(7, "malloc-112", 112, 10, 10);
  expect_golden("report_clean.txt", report_text(builder.build(), named_options()));
}

TEST(ReportText, ColourOnlyIfAsked) {
  ReportOptions options = named_options();
  EXPECT_EQ(report_text(named_report(), options).find('\033'), std::string::npos);
  options.color = true;
  EXPECT_NE(report_text(named_report(), options).find("\033[1m"), std::string::npos);
}

TEST(ReportJson, NamedStacks) {
  expect_golden("report_all.json", report_json(named_report()));
}

TEST(ReportJson, HoldsTheKeysOfTheSchema) {
  const nlohmann::json json = nlohmann::json::parse(report_json(typical().build()));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["target"]["pid"], 4711);
  EXPECT_EQ(json["target"]["state"], "exited");
  for (const char* name : {"definite", "indirect", "reachable"}) {
    EXPECT_EQ(json["totals"][name], (nlohmann::json{{"objects", 0}, {"bytes", 0}}));
  }
  EXPECT_EQ(json["totals"]["unchecked"]["objects"], 1002);
  EXPECT_EQ(json["caches"].size(), 4u);
  EXPECT_EQ(json["caches"][0]["name"], "large");
  const nlohmann::json& leak = json["leaks"][1];
  EXPECT_EQ(leak["class"], "unknown");
  EXPECT_EQ(leak["objects"], 1000);
  EXPECT_EQ(leak["bytes"], 100000);
  EXPECT_EQ(leak["estimated"], false);
  EXPECT_EQ(leak["samples"], 1000);
  EXPECT_EQ(leak["caches"], nlohmann::json::array({"malloc-112"}));
  const nlohmann::json& first = leak["stack"][0];
  for (const char* key : {"function", "file", "line", "module", "offset", "build_id", "inlined"}) {
    EXPECT_TRUE(first.contains(key)) << key;
  }
}

TEST(FunctionName, IsCutWhereItHelps) {
  EXPECT_EQ(short_function_name("main", 40), "main");
  EXPECT_EQ(short_function_name("f(std::__cxx11::basic_string<char, std::char_traits<char>, "
                                "std::allocator<char> > const&)",
                                40),
            "f(std::string const&)");
  EXPECT_EQ(short_function_name("std::vector<a::Node, std::allocator<a::Node> >::push_back(a::Node "
                                "const&, and, many, more, arguments)",
                                40),
            "std::vector<a::Node>::push_back(...)");
  EXPECT_EQ(
      short_function_name("a::operator<(a::Long<int, int, int> const&, a::Long<int> const&)", 30),
      "a::operator<(...)");
  EXPECT_EQ(short_function_name("x::operator()(int, int, int, int, int, int, int, int) const", 30),
            "x::operator()(...) const");
  EXPECT_EQ(short_function_name("(anonymous namespace)::f(int, int, int, int, int, int, int)", 30),
            "{anonymous}::f(...)");
  EXPECT_LE(short_function_name(std::string(5000, 'x'), 40).size(), 40u);
  EXPECT_LE(short_function_name(std::string(5000, '<'), 40).size(), 40u);
  EXPECT_LE(short_function_name(std::string(5000, '('), 40).size(), 40u);
}

TEST(StackFrames, KnowsTheAllocator) {
  EXPECT_TRUE(is_allocator("/usr/lib/libslabscope.so"));
  EXPECT_TRUE(is_allocator("libslabscope.so.0.1.0"));
  EXPECT_FALSE(is_allocator("/usr/lib/libslabscope_client.so"));
  EXPECT_FALSE(is_allocator("/srv/libslabscope.so/program"));
}

}  // namespace
}  // namespace slabscope
