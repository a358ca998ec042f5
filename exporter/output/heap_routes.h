// SPDX-License-Identifier: MIT
//
// HeapRoutes: the live heap by stack, over HTTP.
//
//   /debug/pprof/heap   for pprof, Parca, Pyroscope     ?pid=N | target=PID or name | app=LABEL
//   /api/v1/heap        JSON, as `heap --json`          &min_bytes=N
//   /heap               the page with the flame graph   none of them: the one process that lives
//
// A profile names functions, which is work: one is made at a time, and who waits too long is told
// to try again (503), so that scrapes always find a thread. Only processes that the scraper found
// can be asked for: a request names no file.
// Locks: making_, held while one profile is made; Scraper's own is never held meanwhile.

#pragma once

#include <mutex>
#include <string>

#include "exporter/analysis/symbolize.h"
#include "exporter/output/scraper.h"

namespace httplib {
class Server;
struct Request;
struct Response;
}  // namespace httplib

namespace slabscope {

class HeapRoutes {
 public:
  explicit HeapRoutes(Scraper& scraper) : scraper_(scraper) {}

  // The server must not outlive this object.
  void add_to(httplib::Server& server);

 private:
  enum class Form { kPprof, kJson, kPage };
  void answer(Form form, const httplib::Request& request, httplib::Response& response);

  Scraper& scraper_;
  std::timed_mutex making_;
  Symbolizer symbolizer_;
};

}  // namespace slabscope
