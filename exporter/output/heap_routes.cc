// SPDX-License-Identifier: MIT

#include "exporter/output/heap_routes.h"

#include <httplib.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>
#include <vector>

#include "exporter/analysis/heap_profile.h"
#include "exporter/base/text.h"
#include "exporter/output/heap_json.h"
#include "exporter/output/heap_tree.h"
#include "exporter/output/json.h"
#include "exporter/output/pprof.h"

namespace slabscope {
namespace {

constexpr std::chrono::seconds kMakingPatience(2);
constexpr int kBadRequest = 400;
constexpr int kNotFound = 404;
constexpr int kBusy = 503;

struct Refusal {
  int status = kBadRequest;
  std::string message;
};

void refuse(httplib::Response& response, const Refusal& refusal) {
  response.status = refusal.status;
  response.set_content(dump({{"schema", 1}, {"error", printable_utf8(refusal.message)}}),
                       "application/json");
}

std::string listed(const std::vector<const ProcessView*>& views) {
  constexpr size_t kShown = 8;
  std::string text;
  for (size_t i = 0; i < std::min(kShown, views.size()); ++i) {
    const TargetInfo& target = views[i]->snapshot->target;
    text += (i == 0 ? "" : ", ") + std::to_string(target.pid) + " (" + target.comm + ")";
  }
  return views.size() > kShown ? text + ", ..." : text;
}

bool fits(const ProcessView& view, const httplib::Request& request) {
  const TargetInfo& target = view.snapshot->target;
  if (request.has_param("pid")) {
    return std::to_string(target.pid) == request.get_param_value("pid");
  }
  if (request.has_param("target")) {
    const std::string name = request.get_param_value("target");
    return std::to_string(target.pid) == name ||
           (!name.empty() && target.comm.find(name) != std::string::npos);
  }
  return !request.has_param("app") || view.app == request.get_param_value("app");
}

// The living win over the dead; a pid means the newest that bore it.
std::variant<const ProcessView*, Refusal> pick(const std::vector<ProcessView>& views,
                                               const httplib::Request& request) {
  std::vector<const ProcessView*> live;
  std::vector<const ProcessView*> dead;
  for (const ProcessView& view : views) {
    if (fits(view, request)) {
      (view.snapshot->target.state == TargetState::kRunning ? live : dead).push_back(&view);
    }
  }
  const bool named =
      request.has_param("pid") || request.has_param("target") || request.has_param("app");
  const auto& candidates = live.empty() && named ? dead : live;
  if (candidates.empty()) {
    return Refusal{kNotFound, named ? "no such process; /api/v1/targets lists them"
                                    : "no process runs under slabscope; start one with "
                                      "`slabscope run -- PROGRAM`"};
  }
  if (candidates.size() > 1 && !request.has_param("pid")) {
    return Refusal{kBadRequest, "which process? add pid=N, one of " + listed(candidates)};
  }
  return candidates.front();
}

std::optional<uint64_t> number_of(const httplib::Request& request, const char* name) {
  const std::string text = request.get_param_value(name);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional(value)
                                                                  : std::nullopt;
}

// "heap-server-4711.pb.gz", with nothing in it that a header or a file system would mind.
std::string file_name(const TargetInfo& target) {
  std::string name = target.comm;
  std::replace_if(
      name.begin(), name.end(),
      [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '_';
      },
      '_');
  return "heap-" + name + "-" + std::to_string(target.pid) + ".pb.gz";
}

}  // namespace

void HeapRoutes::add_to(httplib::Server& server) {
  const auto route = [&](const char* path, Form form) {
    server.Get(path, [this, form](const httplib::Request& request, httplib::Response& response) {
      answer(form, request, response);
    });
  };
  route("/debug/pprof/heap", Form::kPprof);
  route("/api/v1/heap", Form::kJson);
  route("/heap", Form::kPage);
}

void HeapRoutes::answer(Form form, const httplib::Request& request, httplib::Response& response) {
  if (request.has_param("seconds")) {
    refuse(response, {kBadRequest,
                      "seconds is not served; use `slabscope heap PID --seconds N`, or "
                      "fetch two profiles and compare with pprof -diff_base"});
    return;
  }
  uint64_t min_bytes = 0;
  if (request.has_param("min_bytes")) {
    const std::optional<uint64_t> number = number_of(request, "min_bytes");
    if (!number) {
      refuse(response, {kBadRequest, "min_bytes must be a number of bytes"});
      return;
    }
    min_bytes = *number;
  }
  const std::vector<ProcessView> views = scraper_.processes();
  const auto picked = pick(views, request);
  if (const auto* refusal = std::get_if<Refusal>(&picked)) {
    refuse(response, *refusal);
    return;
  }
  const ProcessView& view = *std::get<const ProcessView*>(picked);
  const std::unique_lock making(making_, kMakingPatience);
  if (!making.owns_lock()) {
    response.set_header("Retry-After", "5");
    refuse(response, {kBusy, "another profile is being made; try again in a few seconds"});
    return;
  }
  Result<HeapReading> reading = read_heap(view.snapshot->target.path);
  if (!reading) {
    refuse(response, {kNotFound, reading.failure().message});
    return;
  }
  reading->snapshot.target.state = view.snapshot->target.state;
  reading->snapshot.target.app = view.app;
  HeapOptions options;
  options.freed = form == Form::kPprof ? Freed::kInclude : Freed::kLeaveOut;
  const HeapProfile profile = build_heap_profile(std::move(*reading), symbolizer_, options);
  if (form == Form::kJson) {
    response.set_content(heap_json(profile, min_bytes), "application/json");
  } else if (form == Form::kPage) {
    response.set_content(heap_page(profile), "text/html; charset=utf-8");
  } else {
    response.set_header("Content-Disposition",
                        "attachment; filename=\"" + file_name(profile.target) + "\"");
    response.set_content(heap_pprof(profile), "application/octet-stream");
  }
}

}  // namespace slabscope
