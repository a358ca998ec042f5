// SPDX-License-Identifier: MIT

#include "exporter/output/scraper.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>

#include "exporter/source/reap.h"
#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScopeFile;
using testing::ScratchDirectory;
using testing::SegmentBuilder;

constexpr uint32_t kScrapedPid = 4'000'000'001;

class ScraperTest : public ::testing::Test {
 protected:
  Scraper make(uint64_t reap_after_s = 600) {
    ScraperOptions options;
    options.directories = {scratch_.path()};
    options.reap_after_s = reap_after_s;
    return Scraper(std::move(options));
  }

  ScopeFile process(uint64_t start_ns, uint64_t allocations) {
    SegmentBuilder builder;
    builder.pid(kScrapedPid).start(start_ns);
    builder.add_cache(1, "malloc-16", 16);
    builder.count(0, 1, allocations, 1);
    builder.add_object(0x1000, 10, 0, 1);
    return builder.write(scratch_);
  }

  static double value(const std::string& text, const std::string& series) {
    const size_t at = ("\n" + text).find("\n" + series + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 1));
  }

  ScratchDirectory scratch_;
};

constexpr const char* kAllocations =
    "slabscope_cache_allocations_total{app=\"demo\",cache=\"malloc-16\"}";

TEST_F(ScraperTest, CountersNeverFallAlthoughProcessesEndAndFilesAreReaped) {
  Scraper scraper = make();
  uint64_t now = 1000;
  scraper.set_clock([&] { return now; });
  ScopeFile first = process(1, 10);
  ScopeFile second = process(2, 20);
  first.lock();
  second.lock();
  EXPECT_EQ(value(scraper.metrics(), kAllocations), 30);
  EXPECT_EQ(value(scraper.metrics(), "slabscope_processes{app=\"demo\"}"), 2);

  first.poke(SegmentBuilder::counter_offset(0, 1), uint64_t{12});
  first.unlock();
  EXPECT_EQ(value(scraper.metrics(), kAllocations), 32);
  EXPECT_EQ(value(scraper.metrics(), "slabscope_processes{app=\"demo\"}"), 1);
  EXPECT_EQ(access(first.path().c_str(), F_OK), 0);

  now += 601;
  EXPECT_EQ(value(scraper.metrics(), kAllocations), 32);
  EXPECT_NE(access(first.path().c_str(), F_OK), 0);
  EXPECT_EQ(access(second.path().c_str(), F_OK), 0);
  EXPECT_EQ(value(scraper.metrics(), kAllocations), 32);
  EXPECT_EQ(value(scraper.metrics(), kAllocations), 32);
}

TEST_F(ScraperTest, AFileRemovedBySomebodyElseGoesOnCounting) {
  Scraper scraper = make();
  const ScopeFile file = process(1, 10);
  EXPECT_EQ(value(scraper.metrics(), kAllocations), 10);
  unlink(file.path().c_str());
  EXPECT_EQ(value(scraper.metrics(), kAllocations), 10);
}

TEST_F(ScraperTest, ACollectorThatThrowsLosesOnlyItsOwnFamilies) {
  Scraper scraper = make();
  const ScopeFile file = process(1, 10);
  scraper.set_extra_collector([](FamilySet& families) {
    families.add({"slabscope_lost", MetricKind::kGauge, "Lost."}, {}, 1.0);
    throw std::runtime_error("broken");
  });
  const std::string text = scraper.metrics();
  EXPECT_EQ(text.find("slabscope_lost"), std::string::npos);
  EXPECT_EQ(value(text, "slabscope_exporter_scrape_success{collector=\"extra\"}"), 0);
  EXPECT_EQ(value(text, "slabscope_exporter_scrape_success{collector=\"cache\"}"), 1);
  EXPECT_EQ(value(text, kAllocations), 10);
}

TEST_F(ScraperTest, BrokenFilesAreCountedByState) {
  Scraper scraper = make();
  ScopeFile cut = process(1, 10);
  cut.truncate(5000);
  SegmentBuilder other;
  other.header().version = 99;
  const ScopeFile version = other.write(scratch_, "other.scope");
  const ScopeFile empty(scratch_.file("empty.scope"));
  const std::string text = scraper.metrics();
  EXPECT_EQ(value(text, "slabscope_exporter_targets{state=\"truncated\"}"), 1);
  EXPECT_EQ(value(text, "slabscope_exporter_targets{state=\"version_mismatch\"}"), 1);
  EXPECT_EQ(value(text, "slabscope_exporter_targets{state=\"not_ready\"}"), 1);
}

TEST_F(ScraperTest, TheLivingAreNeverReaped) {
  ScopeFile file = process(1, 10);
  file.lock();
  TargetInfo info = find_targets({scratch_.path()}).front().info.value();
  EXPECT_EQ(reap(info), ReapResult::kStillUsed);
  file.unlock();
  info.file.inode += 1;
  EXPECT_EQ(reap(info), ReapResult::kGone);  // the path now names another file
  EXPECT_EQ(access(file.path().c_str(), F_OK), 0);
  info.file.inode -= 1;
  EXPECT_EQ(reap(info), ReapResult::kRemoved);
}

TEST_F(ScraperTest, TrackedObjectsBecomeRequestedBytes) {
  Scraper scraper = make();
  ScopeFile file = process(1, 10);
  file.lock();
  const std::string text = scraper.metrics();
  EXPECT_EQ(value(text, "slabscope_requested_bytes{app=\"demo\"}"), 10);
}

// Names, types and help texts are an interface: dashboards and alerts are built on them. Make the
// file anew with SLABSCOPE_UPDATE_GOLDEN=1 and review the difference.
TEST_F(ScraperTest, FamiliesAreThoseOfTheGoldenFile) {
  Scraper scraper = make();
  ScopeFile file = process(1, 10);
  file.lock();
  // What only a real process or another option shows: resident bytes, and who it is.
  FamilySet rest;
  std::vector<ProcessView> views = scraper.processes();
  views.front().resident_bytes = 4096;
  add_process_metrics(rest, make_subjects(views, {}, Grouping::kByProcess), Grouping::kByProcess);
  std::istringstream text(serialize(rest.take()) + scraper.metrics());
  std::map<std::string, std::string> families;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("# ")) {
      const size_t begin = line.find(' ', 2) + 1;
      std::string& lines = families[line.substr(begin, line.find(' ', begin) - begin)];
      if (lines.find(line + "\n") == std::string::npos) {
        lines += line + "\n";
      }
    }
  }
  std::string found;
  for (const auto& [name, lines] : families) {
    found += lines;
  }
  const std::string path = SLABSCOPE_GOLDEN "/metric_families.txt";
  if (std::getenv("SLABSCOPE_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << found;
  }
  std::ifstream golden(path);
  const std::string expected{std::istreambuf_iterator<char>(golden), {}};
  EXPECT_EQ(found, expected);
}

}  // namespace
}  // namespace slabscope
