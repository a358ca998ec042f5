// SPDX-License-Identifier: MIT

#include "exporter/output/http.h"

#include <gtest/gtest.h>
#include <httplib.h>
#include <nlohmann/json.hpp>

#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScopeFile;
using testing::ScratchDirectory;
using testing::SegmentBuilder;

class Http : public ::testing::Test {
 protected:
  void SetUp() override {
    SegmentBuilder builder;
    builder.add_cache(1, "malloc-16", 16);
    builder.count(0, 1, 5, 1);
    file_.emplace(builder.write(scratch_));
    file_->lock();
    const Result<ListenAddress> bound = server_.bind({"127.0.0.1", 0});
    ASSERT_TRUE(bound);
    port_ = bound->port;
    server_.start();
  }

  httplib::Client client() const { return httplib::Client("127.0.0.1", port_); }
  static ScraperOptions options(const std::string& directory) {
    ScraperOptions options;
    options.directories = {directory};
    return options;
  }

  ScratchDirectory scratch_;
  std::optional<ScopeFile> file_;
  Scraper scraper_{options(scratch_.path())};
  HttpServer server_{scraper_};
  uint16_t port_ = 0;
};

TEST_F(Http, MetricsHaveTheContentTypeThatPrometheusAsksFor) {
  const auto answer = client().Get("/metrics");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->get_header_value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_NE(answer->body.find("slabscope_processes"), std::string::npos);
}

TEST_F(Http, HeadIsGetWithoutABody) {
  const auto answer = client().Head("/metrics");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_TRUE(answer->body.empty());
}

TEST_F(Http, OtherMethodsAreRefused) {
  const auto answer = client().Post("/metrics", "x", "text/plain");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 405);
  EXPECT_EQ(answer->get_header_value("Allow"), "GET, HEAD");
}

TEST_F(Http, PathsAreWholePaths) {
  for (const char* path : {"/metricsfoo", "/metrics/x", "/nothing", "/api/v1/"}) {
    const auto answer = client().Get(path);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 404) << path;
  }
}

TEST_F(Http, ThePageShowsTheProcess) {
  const auto answer = client().Get("/");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->get_header_value("Content-Type"), "text/html; charset=utf-8");
  EXPECT_NE(answer->get_header_value("Content-Security-Policy").find("default-src 'none'"),
            std::string::npos);
  EXPECT_NE(answer->body.find("malloc-16"), std::string::npos);
}

TEST_F(Http, TheApiListsTargetsAndTheirCaches) {
  const auto targets = nlohmann::json::parse(client().Get("/api/v1/targets")->body);
  EXPECT_EQ(targets["targets"][0]["pid"], 1234);
  const auto caches = nlohmann::json::parse(client().Get("/api/v1/caches?target=1234")->body);
  EXPECT_EQ(caches["caches"][0]["active_objects"], 4);
  EXPECT_EQ(client().Get("/api/v1/caches")->status, 400);
  EXPECT_EQ(client().Get("/api/v1/caches?target=1")->status, 404);
}

TEST_F(Http, DiscoveryNamesTheExporterAsItWasReached) {
  const auto discovered = nlohmann::json::parse(client().Get("/sd")->body);
  EXPECT_EQ(discovered[0]["targets"][0], "127.0.0.1:" + std::to_string(port_));
}

TEST_F(Http, HealthyIsHealthy) {
  EXPECT_EQ(client().Get("/-/healthy")->status, 200);
}

TEST_F(Http, APortInUseIsAnErrorNotShared) {
  HttpServer second(scraper_);
  const Result<ListenAddress> bound = second.bind({"127.0.0.1", port_});
  ASSERT_FALSE(bound);
  EXPECT_NE(bound.failure().message.find("in use"), std::string::npos) << bound.failure().message;
  EXPECT_NE(bound.failure().message.find(std::to_string(port_)), std::string::npos);
}

TEST_F(Http, AThrowingScrapeIsAnAnswerNotAnEnd) {
  scraper_.set_extra_collector([](FamilySet&) { throw std::runtime_error("broken"); });
  EXPECT_EQ(client().Get("/metrics")->status, 200);
  EXPECT_EQ(client().Get("/-/healthy")->status, 200);
}

}  // namespace
}  // namespace slabscope
