// SPDX-License-Identifier: MIT
//
// HttpServer: the exporter's one server, for metrics, pages and the API.
//
//   GET /metrics  /  /api/v1/targets  /api/v1/caches?target=PID  /sd  /-/healthy
//       /heap  /api/v1/heap  /debug/pprof/heap  ?pid=N          (heap_routes.h)
//
// Only GET and HEAD; 16 threads and 2 s of patience with an idle connection, so that a handful of
// them cannot hold up a scrape.  The library would set SO_REUSEPORT, with which a second exporter
// silently shares the port; only SO_REUSEADDR is set here.

#pragma once

#include <memory>

#include "exporter/base/listen_address.h"
#include "exporter/base/result.h"
#include "exporter/output/scraper.h"

namespace slabscope {

class HttpServer {
 public:
  explicit HttpServer(Scraper& scraper);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // The address that was bound, with the port that the kernel chose if none was asked for.
  Result<ListenAddress> bind(const ListenAddress& address);

  // Serves on a thread of its own until stop(), or until this object ends.
  void start();
  void stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace slabscope
