// SPDX-License-Identifier: MIT

#include "exporter/output/prometheus.h"

#include <gtest/gtest.h>

#include <locale>

#include "exporter/output/event_text.h"
#include "exporter/source/attach.h"
#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScratchDirectory;
using testing::SegmentBuilder;

// A process at rest whose books balance: 3 slabs of 64-byte objects, one large block, some runs.
SegmentBuilder balanced() {
  SegmentBuilder builder;
  abi::CacheRecord& small = builder.add_cache(4, "malloc-64", 64);
  small.objects_per_slab = 250;  // 384 bytes of tail in each slab of 16384
  small.stats.slabs = 3;
  small.stats.slabs_partial = 2;  // the empty one is on the list, too
  small.stats.slabs_empty = 1;
  small.stats.objects_out = 300;
  small.stats.slow_allocations = 11;
  small.stats.peak_active_objects = 280;
  builder.count(0, 4, 1000, 740);
  abi::CacheRecord& large = builder.add_cache(100, "large", 0);
  large.kind = static_cast<uint32_t>(abi::CacheKind::kLarge);
  large.stats.live_bytes = 100'000;
  builder.count(0, 100, 5, 4);
  builder.add_cache(7, "malloc-112", 112);  // never used
  builder.header().counters.mapped_slab_bytes = 3 * 16384;
  builder.header().counters.mapped_large_bytes = 102'400;
  builder.header().counters.mapped_free_bytes = 65'536;
  builder.header().counters.errors_double_free = 2;
  return builder;
}

ProcessView view_of(SegmentBuilder builder, const std::string& app,
                    TargetState state = TargetState::kRunning) {
  ScratchDirectory scratch;
  const testing::ScopeFile file = builder.write(scratch);
  Result<Snapshot> snapshot = attach(file.path());
  snapshot->target.state = state;
  return {std::make_shared<const Snapshot>(std::move(*snapshot)), app, std::nullopt, std::nullopt};
}

std::string text_of(const std::vector<ProcessView>& views, const MetricOptions& options = {}) {
  std::map<std::string, Totals> totals;
  for (const ProcessView& view : views) {
    totals[view.app] += totals_of(*view.snapshot);
  }
  FamilySet families;
  const std::vector<Subject> subjects = make_subjects(views, totals, options.grouping);
  add_process_metrics(families, subjects, options.grouping);
  add_cache_metrics(families, subjects, options);
  return serialize(families.take());
}

::testing::AssertionResult has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos
             ? ::testing::AssertionSuccess()
             : ::testing::AssertionFailure() << "no line '" << line << "' in\n"
                                             << text;
}

TEST(Prometheus, MappedIsActivePlusFree) {
  const ProcessView view = view_of(balanced(), "demo");
  const Snapshot& snapshot = *view.snapshot;
  const FreeBytes free = free_bytes(snapshot);
  const abi::ProcessCounters& counters = snapshot.counters;
  EXPECT_EQ(active_bytes(snapshot), 260u * 64 + 100'000);
  EXPECT_EQ(free.thread, 40u * 64);
  EXPECT_EQ(free.partial, 450u * 64);
  EXPECT_EQ(free.tail, 3u * 384 + 2400);
  EXPECT_EQ(counters.mapped_slab_bytes + counters.mapped_large_bytes + counters.mapped_free_bytes,
            active_bytes(snapshot) + free.thread + free.partial + free.tail + free.runs);
}

TEST(Prometheus, ObjectsAreActivePlusListedPlusFree) {
  const ProcessView view = view_of(balanced(), "demo");
  const Cache& cache = view.snapshot->caches.front();
  EXPECT_EQ(cache.objects(),
            cache.active_objects() + cache.thread_free_objects() + cache.slab_free_objects());
  EXPECT_EQ(cache.stats.slabs, cache.slabs_full() + cache.slabs_partial() + cache.slabs_empty());
}

TEST(Prometheus, FamiliesCarryTheLabelsOfTheTable) {
  const std::string text = text_of({view_of(balanced(), "demo")});
  EXPECT_TRUE(has_line(text, "slabscope_processes{app=\"demo\"} 1"));
  EXPECT_TRUE(has_line(text, "slabscope_mapped_bytes{app=\"demo\",kind=\"slab\"} 49152"));
  EXPECT_TRUE(has_line(text, "slabscope_free_bytes{app=\"demo\",where=\"runs\"} 65536"));
  EXPECT_TRUE(has_line(text, "slabscope_errors_total{app=\"demo\",kind=\"double_free\"} 2"));
  EXPECT_TRUE(has_line(text, "slabscope_large_allocations_total{app=\"demo\"} 5"));
  EXPECT_TRUE(
      has_line(text, "slabscope_cache_active_objects{app=\"demo\",cache=\"malloc-64\"} 260"));
  EXPECT_TRUE(has_line(
      text, "slabscope_cache_slabs{app=\"demo\",cache=\"malloc-64\",state=\"partial\"} 1"));
  EXPECT_EQ(text.find("malloc-112"), std::string::npos);  // never used
  EXPECT_EQ(text.find("pid="), std::string::npos);
}

TEST(Prometheus, EventsAreCountedByKindUnderTheNamesThatEventsHave) {
  SegmentBuilder builder = balanced();
  abi::ProcessCounters& counters = builder.header().counters;
  counters.events = 1000;  // with the kinds, each event would count twice
  for (uint32_t kind = 1; kind <= abi::kLastEventKind; ++kind) {
    (&counters.events_cache_created)[kind - 1] = 10 + kind;
  }
  const std::string text = text_of({view_of(builder, "demo")});
  for (uint32_t kind = 1; kind <= abi::kLastEventKind; ++kind) {
    const std::string name(event_name(static_cast<abi::EventKind>(kind)));
    EXPECT_TRUE(has_line(text, "slabscope_events_total{app=\"demo\",event=\"" + name + "\"} " +
                                   std::to_string(10 + kind)));
  }
  EXPECT_EQ(text.find("slabscope_events_total{app=\"demo\"}"), std::string::npos);
}

TEST(Prometheus, ProcessesOfAnAppAreSummedAndTheDeadLendOnlyCounters) {
  const std::string text = text_of({view_of(balanced(), "demo"), view_of(balanced(), "demo"),
                                    view_of(balanced(), "demo", TargetState::kDied)});
  EXPECT_TRUE(has_line(text, "slabscope_processes{app=\"demo\"} 2"));
  EXPECT_TRUE(
      has_line(text, "slabscope_cache_active_objects{app=\"demo\",cache=\"malloc-64\"} 520"));
  EXPECT_TRUE(
      has_line(text, "slabscope_cache_allocations_total{app=\"demo\",cache=\"malloc-64\"} 3000"));
}

TEST(Prometheus, EachFamilyAppearsOnce) {
  const std::string text = text_of({view_of(balanced(), "a"), view_of(balanced(), "b")});
  std::map<std::string, int> types;
  for (size_t at = text.find("# TYPE "); at != std::string::npos;
       at = text.find("# TYPE ", at + 1)) {
    ++types[text.substr(at + 7, text.find(' ', at + 7) - at - 7)];
  }
  EXPECT_GT(types.size(), 30u);
  for (const auto& [name, count] : types) {
    EXPECT_EQ(count, 1) << name;
  }
}

TEST(Prometheus, LabelsAreAlwaysValidUtf8) {
  SegmentBuilder builder;
  builder.add_cache(1, "bad\xff\"name\\", 16);
  builder.count(0, 1, 1, 0);
  const std::string text = text_of({view_of(std::move(builder), "app\xff\n")});
  EXPECT_NE(text.find("app=\"app\xEF\xBF\xBD\xEF\xBF\xBD\""), std::string::npos);
  EXPECT_NE(text.find("cache=\"bad\xEF\xBF\xBD\\\"name\\\\\""), std::string::npos) << text;
}

TEST(Prometheus, PerProcessNamesTheProcess) {
  MetricOptions options;
  options.grouping = Grouping::kByProcess;
  const std::string text = text_of({view_of(balanced(), "demo")}, options);
  EXPECT_NE(text.find("slabscope_target_info{app=\"demo\",instance_id="), std::string::npos);
  EXPECT_NE(text.find("pid=\"1234\""), std::string::npos);
  EXPECT_NE(text.find("start_time=\"1700000000\""), std::string::npos);
}

TEST(Prometheus, CachesCanBeFilteredReducedAndLeftOut) {
  MetricOptions options;
  options.cache_exclude = std::regex("malloc-.*");
  EXPECT_EQ(text_of({view_of(balanced(), "demo")}, options).find("malloc-64"), std::string::npos);
  options.cache_exclude.reset();
  options.cache_include = std::regex("malloc");  // whole names only
  EXPECT_EQ(text_of({view_of(balanced(), "demo")}, options).find("cache=\""), std::string::npos);
  options.cache_include.reset();
  options.cache_detail = CacheDetail::kBasic;
  const std::string basic = text_of({view_of(balanced(), "demo")}, options);
  EXPECT_NE(basic.find("slabscope_cache_active_objects"), std::string::npos);
  EXPECT_EQ(basic.find("slabscope_cache_slabs"), std::string::npos);
  options.cache_detail = CacheDetail::kOff;
  EXPECT_EQ(text_of({view_of(balanced(), "demo")}, options).find("slabscope_cache_"),
            std::string::npos);
}

TEST(Prometheus, SeriesBeyondTheLimitAreCounted) {
  const ProcessView view = view_of(balanced(), "demo");
  MetricOptions options;
  options.max_cache_series = 20;  // one cache has 15
  FamilySet families;
  const std::vector<ProcessView> views{view};
  const std::map<std::string, Totals> totals{{"demo", totals_of(*view.snapshot)}};
  EXPECT_EQ(add_cache_metrics(families, make_subjects(views, totals, options.grouping), options),
            15u);
}

// Numbers keep their point and stay ungrouped in a locale that has other ideas.
class GermanNumbers : public std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

TEST(Prometheus, NumbersDoNotFollowTheLocale) {
  const std::locale before =
      std::locale::global(std::locale(std::locale::classic(), new GermanNumbers));
  FamilySet families;
  families.add({"slabscope_number", MetricKind::kGauge, "A number."}, {}, 1234567.5);
  const std::string text = serialize(families.take());
  std::locale::global(before);
  EXPECT_TRUE(has_line(text, "slabscope_number 1234567.5"));
}

TEST(Prometheus, HugeCountersOfAHostileFileStayNumbers) {
  SegmentBuilder builder = balanced();
  abi::CacheRecord& cache = builder.add_cache(4, "malloc-64", 64);
  cache.stats.slabs = UINT64_MAX;
  cache.stats.objects_out = UINT64_MAX;
  cache.objects_per_slab = UINT32_MAX;
  cache.object_size = UINT32_MAX;
  builder.header().counters.mapped_slab_bytes = UINT64_MAX;
  const std::string text = text_of({view_of(std::move(builder), "demo")});
  EXPECT_EQ(text.find("nan"), std::string::npos);
  EXPECT_EQ(text.find("inf"), std::string::npos);
}

}  // namespace
}  // namespace slabscope
