// SPDX-License-Identifier: MIT
//
// The small modules around the snapshot: addresses, tables, JSON, /proc, the shim's environment.

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cmath>
#include <sstream>

#include "exporter/base/listen_address.h"
#include "exporter/base/shim.h"
#include "exporter/base/whole_file.h"
#include "exporter/output/json.h"
#include "exporter/output/page.h"
#include "exporter/output/table.h"
#include "exporter/source/attach.h"
#include "exporter/source/object_summary.h"
#include "exporter/source/process_info.h"
#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScopeFile;
using testing::ScratchDirectory;
using testing::SegmentBuilder;

std::string parsed_address(std::string_view text) {
  const Result<ListenAddress> address = parse_listen_address(text);
  return address ? url_of(*address) : "bad";
}

TEST(ListenAddress, TakesTheUsualForms) {
  EXPECT_EQ(parsed_address("127.0.0.1:9464"), "http://127.0.0.1:9464");
  EXPECT_EQ(parsed_address("localhost:0"), "http://localhost:0");
  EXPECT_EQ(parsed_address("[::1]:9464"), "http://[::1]:9464");
  EXPECT_EQ(parsed_address(":80"), "http://0.0.0.0:80");
  EXPECT_EQ(parsed_address("9464"), "http://127.0.0.1:9464");
}

TEST(ListenAddress, RefusesTheRest) {
  for (const char* text : {"", ":", "host", "host:", "host:x", "host:-1", "host:65536", "host:80x",
                           "[::1]", "[::1]9464", "[]:80", "::1:80", "a b:80", "http://x:80"}) {
    EXPECT_EQ(parsed_address(text), "bad") << text;
  }
}

TEST(Table, LinesUpByCharactersNotBytes) {
  Table table({{"NAME", Align::kLeft}, {"SIZE"}, {"END", Align::kLeft}});
  table.add_row({"größe", "1", "x"});
  table.add_row({"b", "1000000", "yy"});
  std::ostringstream out;
  table.print(out, Color::kNever);
  EXPECT_EQ(out.str(),
            "NAME      SIZE  END\n"
            "größe        1  x\n"
            "b      1000000  yy\n");
}

TEST(Json, KeysAreTheMetricNamesWithoutPrefix) {
  ScratchDirectory scratch;
  SegmentBuilder builder;
  builder.add_cache(3, "malloc-48", 48).stats.slabs = 2;
  builder.count(0, 3, 9, 4);
  builder.header().exe[0] = '\xff';
  ScopeFile file = builder.write(scratch);
  file.lock();
  const Result<Snapshot> snapshot = attach(file.path());
  const auto json = nlohmann::json::parse(dump(snapshot_json(*snapshot)));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["target"]["pid"], 1234);
  EXPECT_EQ(json["target"]["state"], "running");
  EXPECT_DOUBLE_EQ(json["target"]["start_time_seconds"], 1.7e9);
  ASSERT_EQ(json["caches"].size(), 1u);
  const auto& cache = json["caches"][0];
  EXPECT_EQ(cache["name"], "malloc-48");
  EXPECT_EQ(cache["kind"], "malloc");
  EXPECT_EQ(cache["active_objects"], 5);
  EXPECT_EQ(cache["allocations_total"], 9);
  EXPECT_EQ(cache["slabs"], 2);
  EXPECT_TRUE(json["process"].contains("mapped_slab_bytes"));
  EXPECT_TRUE(json["process"].contains("released_bytes_total"));
}

TEST(Json, AProcessThatDiedHasNoLifetime) {
  ScratchDirectory scratch;
  const ScopeFile file = SegmentBuilder().write(scratch);
  EXPECT_TRUE(target_json(*attach_info(file.path()))["lifetime_seconds"].is_null());
}

TEST(ObjectSummary, WeighsEachObjectByItsChance) {
  EXPECT_EQ(object_weight(100, 1), 1.0);
  EXPECT_EQ(object_weight(100, 0), 1.0);
  EXPECT_NEAR(object_weight(64, 1024), 1 / (1 - std::exp(-64.0 / 1024)), 1e-9);
  EXPECT_NEAR(object_weight(1 << 30, 1024), 1.0, 1e-9);
  EXPECT_TRUE(std::isfinite(object_weight(0, UINT32_MAX)));
}

TEST(ObjectSummary, SumsByAge) {
  ScratchDirectory scratch;
  SegmentBuilder builder;
  builder.add_object(1, 100, 0, 1).when_monotonic_ns = UINT64_MAX;  // from the future: new
  builder.add_object(2, 50, 0, 1).when_monotonic_ns = 0;
  const ScopeFile file = builder.write(scratch);
  const Result<ObjectSummary> summary = summarize_objects(file.path(), 10);
  ASSERT_TRUE(summary);
  EXPECT_EQ(summary->requested_bytes, 150);
  EXPECT_EQ(summary->bytes_by_age[kUnderMinute], 100);
  EXPECT_FALSE(summarize_objects(file.path(), 1));
}

constexpr const char* kSmaps =
    "10000-20000 rw-p 00000000 00:00 0 \n"
    "Size: 64 kB\nRss:                  12 kB\nPss: 12 kB\n"
    "30000-40000 rw-s 00000000 00:19 77    /run/slabscope/x.scope\n"
    "Rss:                   4 kB\n"
    "50000-60000 rw-p 00000000 00:00 0 \n"
    "Rss:                   8 kB\nVmFlags: rd wr\n";

TEST(ProcessInfo, ResidentBytesAreThoseOfTheWindow) {
  const FileId id{makedev(0, 0x19), 77};
  const SmapsSum sum = sum_smaps(kSmaps, id, 0x18000, 0x40000 - 0x18000 + 1 + 0x10000);
  EXPECT_EQ(sum.resident_bytes, (12 + 4 + 8) * 1024u);
  EXPECT_TRUE(sum.has_file);
  EXPECT_EQ(sum_smaps(kSmaps, id, 0x20000, 0x10000).resident_bytes, 0u);
  EXPECT_EQ(sum_smaps(kSmaps, id, 0x10000, 0x1000).resident_bytes, 12 * 1024u);
  EXPECT_FALSE(sum_smaps(kSmaps, {makedev(0, 0x18), 77}, 0, 0).has_file);
  EXPECT_FALSE(sum_smaps("Rss: 4 kB\ngarbage\n\n-", id, 0, UINT64_MAX).has_file);
}

TEST(ProcessInfo, ServicesAndNamedContainersNameTheApp) {
  EXPECT_EQ(app_from_cgroup("0::/system.slice/nginx.service\n"), "nginx");
  EXPECT_EQ(
      app_from_cgroup("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app.service"),
      "app");
  EXPECT_EQ(app_from_cgroup("4:memory:/x.service\n1:name=systemd:/system.slice/cron.service\n"),
            "cron");
  EXPECT_EQ(app_from_cgroup("0::/lxc.payload.web/x\n"), "web");
  EXPECT_EQ(app_from_cgroup("0::/user.slice/user-0.slice/user@0.service/session-3.scope\n"), "");
  EXPECT_EQ(app_from_cgroup("0::/system.slice/docker-0123456789abcdef0123.scope\n"), "");
  EXPECT_EQ(app_from_cgroup("0::/\n"), "");
  EXPECT_EQ(app_from_cgroup(""), "");
}

TEST(ProcessInfo, AForeignPidIsNotBelieved) {
  TargetInfo target;
  target.pid = static_cast<uint32_t>(getpid());  // lives, but maps no such file
  target.file = {12345, 67890};
  target.window_bytes = UINT64_MAX;
  target.comm = "demo";
  EXPECT_FALSE(is_mapped_by_its_pid(target));
  EXPECT_EQ(resident_heap_bytes(target), std::nullopt);
  EXPECT_EQ(app_label(target), "demo");
}

TEST(WholeFile, IsTextOrNothingAndNeverAnException) {
  EXPECT_EQ(read_whole_file("/proc/self/comm"), "exporter_tests\n");
  EXPECT_EQ(read_whole_file("/dev/null"), "");
  EXPECT_EQ(read_whole_file("/nowhere"), std::nullopt);
  // Opened, but not read: as of a process that ended in between.
  EXPECT_EQ(read_whole_file("/proc/self/mem"), std::nullopt);
  EXPECT_EQ(errno, EIO);
}

TEST(Shim, StandsInFrontOfAnExistingPreload) {
  using Environment = std::vector<std::string>;
  EXPECT_EQ(preload_environment({"A=1"}, "/s.so", {{"T", "all"}}),
            (Environment{"A=1", "LD_PRELOAD=/s.so", "T=all"}));
  EXPECT_EQ(preload_environment({"LD_PRELOAD=/o.so", "T=off"}, "/s.so", {{"T", "all"}}),
            (Environment{"LD_PRELOAD=/s.so:/o.so", "T=all"}));
  EXPECT_EQ(preload_environment({"LD_PRELOAD="}, "/s.so", {}), (Environment{"LD_PRELOAD=/s.so"}));
}

TEST(Page, EscapesWhatProcessesCallThemselves) {
  ScratchDirectory scratch;
  SegmentBuilder builder;
  builder.comm("<b>x</b>").add_cache(1, "<script>", 16);
  builder.count(0, 1, 1, 0);
  const ScopeFile file = builder.write(scratch);
  Result<Snapshot> snapshot = attach(file.path());
  const std::string page = landing_page({{std::make_shared<const Snapshot>(std::move(*snapshot)),
                                          "a&b", std::nullopt, std::nullopt}});
  EXPECT_EQ(page.find("<b>x"), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;"), std::string::npos);
  EXPECT_NE(page.find("a&amp;b"), std::string::npos);
  EXPECT_EQ(page.find("http://"), std::string::npos);  // nothing from elsewhere
  EXPECT_EQ(page.find("https://"), std::string::npos);
}

}  // namespace
}  // namespace slabscope
