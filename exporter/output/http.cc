// SPDX-License-Identifier: MIT

#include "exporter/output/http.h"

#include <httplib.h>
#include <netdb.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>
#include <thread>

#include "exporter/base/text.h"
#include "exporter/output/heap_routes.h"
#include "exporter/output/json.h"
#include "exporter/output/page.h"

namespace slabscope {
namespace {

constexpr size_t kServerThreads = 16;
constexpr time_t kPatienceSeconds = 2;
constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";
constexpr const char* kJsonType = "application/json";
constexpr const char* kHtmlType = "text/html; charset=utf-8";
constexpr const char* kPagePolicy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'";

using Json = nlohmann::ordered_json;

void reply_json(httplib::Response& response, const Json& json, int status = 200) {
  response.status = status;
  response.set_content(dump(json), kJsonType);
}

void reply_error(httplib::Response& response, int status, const std::string& message) {
  reply_json(response, {{"schema", 1}, {"error", printable_utf8(message)}}, status);
}

// Why this address cannot be bound: the library does not say.
std::string bind_error(const ListenAddress& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  if (const int error = getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found)) {
    return gai_strerror(error);
  }
  std::string reason = "cannot be bound";
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    const int on = 1;
    if (fd >= 0) {
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    if (fd < 0 || ::bind(fd, at->ai_addr, at->ai_addrlen) != 0) {
      reason = errno == EADDRINUSE
                   ? "the port is in use; choose another with --listen ADDRESS:PORT, "
                     "or stop who listens there"
                   : std::generic_category().message(errno);
    }
    if (fd >= 0) {
      close(fd);
    }
  }
  freeaddrinfo(found);
  return reason;
}

const ProcessView* find_process(const std::vector<ProcessView>& views, const std::string& pid) {
  for (const ProcessView& view : views) {
    if (std::to_string(view.snapshot->target.pid) == pid) {
      return &view;
    }
  }
  return nullptr;
}

Json described(const ProcessView& view) {
  TargetInfo target = view.snapshot->target;
  target.app = view.app;
  return target_json(target);
}

}  // namespace

struct HttpServer::State {
  explicit State(Scraper& with) : scraper(with) {}

  void set_up() {
    server.new_task_queue = [] { return new httplib::ThreadPool(kServerThreads); };
    server.set_read_timeout(kPatienceSeconds);
    server.set_write_timeout(kPatienceSeconds);
    server.set_keep_alive_timeout(kPatienceSeconds);
    server.set_payload_max_length(64 << 10);
    server.set_socket_options([](socket_t fd) {
      const int on = 1;
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    });
    server.set_pre_routing_handler(
        [](const httplib::Request& request, httplib::Response& response) {
          response.set_header("X-Content-Type-Options", "nosniff");
          response.set_header("Cache-Control", "no-store");
          if (request.method == "GET" || request.method == "HEAD") {
            return httplib::Server::HandlerResponse::Unhandled;
          }
          response.status = 405;
          response.set_header("Allow", "GET, HEAD");
          response.set_header("Connection", "close");
          response.set_content("only GET and HEAD\n", "text/plain; charset=utf-8");
          return httplib::Server::HandlerResponse::Handled;
        });
    server.set_exception_handler([](const httplib::Request&, httplib::Response& response,
                                    const std::exception_ptr&) {
      reply_error(response, 500, "the exporter failed to answer; its other pages may still work");
    });
    server.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
      if (response.body.empty()) {
        response.set_content(printable_utf8(request.path) + ": nothing here; see /\n",
                             "text/plain; charset=utf-8");
      }
    });
    add_routes();
    add_api();
    heap.add_to(server);
  }

  void add_routes() {
    server.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(scraper.metrics(), kMetricsType);
    });
    server.Get("/-/healthy", [](const httplib::Request&, httplib::Response& response) {
      response.set_content("slabscope is healthy\n", "text/plain; charset=utf-8");
    });
    server.Get("/", [this](const httplib::Request&, httplib::Response& response) {
      response.set_header("Content-Security-Policy", kPagePolicy);
      response.set_content(landing_page(scraper.processes()), kHtmlType);
    });
    // Prometheus' http_sd: this exporter as the caller reached it.
    server.Get("/sd", [](const httplib::Request& request, httplib::Response& response) {
      const std::string host = printable_utf8(request.get_header_value("Host"));
      reply_json(response, Json::array({{{"targets", Json::array({host})},
                                         {"labels", {{"__metrics_path__", "/metrics"}}}}}));
    });
  }

  void add_api() {
    server.Get("/api/v1/targets", [this](const httplib::Request&, httplib::Response& response) {
      Json json = {{"schema", 1}, {"targets", Json::array()}};
      for (const ProcessView& view : scraper.processes()) {
        json["targets"].push_back(described(view));
      }
      reply_json(response, json);
    });
    server.Get("/api/v1/caches", [this](const httplib::Request& request,
                                        httplib::Response& response) {
      const std::string pid = request.get_param_value("target");
      if (pid.empty()) {
        reply_error(response, 400, "which process? /api/v1/caches?target=PID, see /api/v1/targets");
        return;
      }
      const std::vector<ProcessView> views = scraper.processes();
      const ProcessView* view = find_process(views, pid);
      if (view == nullptr) {
        reply_error(response, 404, "no process " + pid + "; see /api/v1/targets");
        return;
      }
      Json json = snapshot_json(*view->snapshot);
      json["target"] = described(*view);
      reply_json(response, json);
    });
  }

  Scraper& scraper;
  HeapRoutes heap{scraper};
  httplib::Server server;
  std::thread thread;
  std::atomic<bool> ended = false;
};

HttpServer::HttpServer(Scraper& scraper) : state_(std::make_unique<State>(scraper)) {
  state_->set_up();
}

HttpServer::~HttpServer() {
  stop();
}

Result<ListenAddress> HttpServer::bind(const ListenAddress& address) {
  ListenAddress bound = address;
  if (address.port == 0) {
    const int port = state_->server.bind_to_any_port(address.host);
    if (port <= 0) {
      return Failure{ErrorCode::kSystem,
                     "cannot listen on " + url_of(address) + ": " + bind_error(address)};
    }
    bound.port = static_cast<uint16_t>(port);
  } else if (!state_->server.bind_to_port(address.host, address.port)) {
    return Failure{ErrorCode::kSystem,
                   "cannot listen on " + url_of(address) + ": " + bind_error(address)};
  }
  return bound;
}

void HttpServer::start() {
  state_->thread = std::thread([this] {
    state_->server.listen_after_bind();
    state_->ended = true;
  });
  // stop() has no effect before the server runs.
  while (!state_->server.is_running() && !state_->ended) {
    std::this_thread::yield();
  }
}

void HttpServer::stop() {
  if (state_->thread.joinable()) {
    state_->server.stop();
    state_->thread.join();
  }
}

}  // namespace slabscope
