// SPDX-License-Identifier: MIT

#include "exporter/output/page.h"

#include <algorithm>

#include "exporter/base/text.h"

namespace slabscope {
namespace {

constexpr size_t kCachesShown = 20;
constexpr size_t kProcessesShown = 50;

constexpr std::string_view kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>slabscope</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #888; --bar: #4a90d955; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin: 2rem 0 .3rem; font-size: 1.15rem; }
p, .soft { color: var(--soft); } p { margin: .3rem 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td.bar { background: linear-gradient(to right, var(--bar) var(--used), transparent var(--used)); }
code { font-size: .92em; } .state { font-weight: 400; color: var(--soft); }
</style></head><body>
<h1>slabscope</h1>
<p>What the heaps of the processes on this host hold, read from outside while they run.
Prometheus scrapes <a href="/metrics">/metrics</a>; programs read
<a href="/api/v1/targets">/api/v1/targets</a>.</p>
<main>
)";

constexpr std::string_view kTail = R"(</main>
<script>
setInterval(async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(fresh.querySelector("main"));
  } catch (error) { /* the server is gone; the last numbers stay */ }
}, 2000);
</script>
</body></html>
)";

constexpr std::string_view kNothing = R"(<h2>No process yet</h2>
<p>Start one with <code>slabscope run -- PROGRAM</code>, or with
<code>LD_PRELOAD=libslabscope.so PROGRAM</code>, and it appears here.</p>
)";

std::string cell(const std::string& text) {
  return "<td>" + text + "</td>";
}

// Objects in use of all there is room for, with a bar behind it.
std::string usage_cell(const Cache& cache) {
  const uint64_t room = cache.objects();
  const uint64_t used = std::min(cache.active_objects(), room);
  const uint64_t percent = room == 0 ? 0 : (used / 2 * 100) / std::max<uint64_t>(room / 2, 1);
  return "<td class=\"bar\" style=\"--used:" + std::to_string(std::min<uint64_t>(percent, 100)) +
         "%\">" + std::to_string(cache.active_objects()) + "</td>";
}

std::string cache_table(const Snapshot& snapshot) {
  std::vector<const Cache*> caches;
  for (const Cache& cache : snapshot.caches) {
    if (cache.ever_used()) {
      caches.push_back(&cache);
    }
  }
  std::sort(caches.begin(), caches.end(), [](const Cache* a, const Cache* b) {
    return a->active_bytes() != b->active_bytes() ? a->active_bytes() > b->active_bytes()
                                                  : a->id < b->id;
  });
  std::string html =
      "<table><tr><th>cache</th><th>in use</th><th>bytes in use</th><th>object size</th>"
      "<th>slabs</th><th>allocated</th><th>freed</th></tr>\n";
  for (size_t i = 0; i < std::min(kCachesShown, caches.size()); ++i) {
    const Cache& cache = *caches[i];
    html += "<tr>" + cell(html_escape(cache.label())) + usage_cell(cache) +
            cell(human_bytes(cache.active_bytes())) +
            cell(cache.object_size == 0 ? "" : human_bytes(cache.object_size)) +
            cell(std::to_string(cache.stats.slabs)) + cell(std::to_string(cache.allocations)) +
            cell(std::to_string(cache.frees)) + "</tr>\n";
  }
  html += "</table>\n";
  if (caches.size() > kCachesShown) {
    html += "<p>and " + std::to_string(caches.size() - kCachesShown) + " smaller ones</p>\n";
  }
  return html;
}

std::string process_section(const ProcessView& view) {
  const Snapshot& snapshot = *view.snapshot;
  const TargetInfo& target = snapshot.target;
  const std::string pid = std::to_string(target.pid);
  std::string html = "<h2>" + html_escape(target.comm) + " <span class=\"state\">" + pid + ", " +
                     std::string(to_string(target.state));
  if (const std::optional<uint64_t> lifetime = lifetime_ns(target)) {
    html += target.state == TargetState::kRunning ? " for " : " after ";
    html += human_duration(*lifetime / 1'000'000'000);
  }
  html += "</span></h2>\n<p>" + human_bytes(active_bytes(snapshot)) + " in use, " +
          human_bytes(snapshot.counters.mapped_slab_bytes + snapshot.counters.mapped_large_bytes +
                      snapshot.counters.mapped_free_bytes) +
          " mapped";
  if (view.resident_bytes) {
    html += ", " + human_bytes(*view.resident_bytes) + " resident";
  }
  html += ", " + std::to_string(live_threads(snapshot)) + " threads; app " + html_escape(view.app) +
          "; <a href=\"/heap?pid=" + pid +
          "\">heap by stack</a>, <a href=\"/debug/pprof/heap?pid=" + pid +
          "\">pprof</a>, <a href=\"/api/v1/caches?target=" + pid + "\">JSON</a></p>\n";
  return html + cache_table(snapshot);
}

}  // namespace

std::string landing_page(const std::vector<ProcessView>& processes) {
  std::string html(kHead);
  if (processes.empty()) {
    html += kNothing;
  }
  size_t shown = 0;
  for (const TargetState state :
       {TargetState::kRunning, TargetState::kDied, TargetState::kExited, TargetState::kReplaced}) {
    for (const ProcessView& view : processes) {
      if (view.snapshot->target.state == state && shown < kProcessesShown) {
        ++shown;
        html += process_section(view);
      }
    }
  }
  if (shown < processes.size()) {
    html += "<p>and " + std::to_string(processes.size() - shown) + " more processes</p>\n";
  }
  return html += kTail;
}

}  // namespace slabscope
