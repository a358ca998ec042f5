// SPDX-License-Identifier: MIT

#include <CLI/App.hpp>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <ostream>

#include "exporter/base/text.h"
#include "exporter/commands/commands.h"
#include "exporter/output/json.h"
#include "exporter/output/prometheus.h"
#include "exporter/output/table.h"
#include "exporter/source/attach.h"
#include "exporter/source/group_totals.h"
#include "exporter/source/targets.h"

namespace slabscope {
namespace {

constexpr const char* kCachesHelp = R"(
One row a cache: the objects of one size (or of one kind) and the slabs they lie in.
Without TARGET: every running process, one section each.

  ACTIVE   objects in use        OBJECTS  room in its slabs     USE  the part in use
  BYTES    bytes in use          SIZE     of one object         SLABS  slabs owned
  ALLOCS   ever allocated        FREES    ever freed            SLOW   past the thread's list

  GROUP    of which this is a child, if the process has groups (docs/groups.md)

With --by group one row a group: THREADS in it now, HELD in its slabs and large blocks, of LIMIT,
and REFUSED allocations. The rows add up to the totals of the process.

Examples:
  slabscope caches                     all running processes
  slabscope caches redis --by group
  slabscope caches nginx --sort allocs
  slabscope caches 4711 --json | jq '.caches[] | {name, active_objects}'
)";

struct CachesOptions {
  std::string target;
  std::string sort = "bytes";
  bool json = false;
  bool bytes = false;
  bool all = false;
  bool once = false;
  std::string by = "cache";
};

using SortKey = uint64_t (*)(const Cache&);

struct NamedKey {
  const char* name;
  SortKey key;  // largest first; null: by name
};

constexpr NamedKey kSortKeys[] = {
    {"bytes", [](const Cache& cache) { return cache.active_bytes(); }},
    {"active", [](const Cache& cache) { return cache.active_objects(); }},
    {"objects", [](const Cache& cache) { return cache.objects(); }},
    {"slabs", [](const Cache& cache) { return cache.stats.slabs; }},
    {"size", [](const Cache& cache) { return uint64_t{cache.object_size}; }},
    {"allocs", [](const Cache& cache) { return cache.allocations; }},
    {"frees", [](const Cache& cache) { return cache.frees; }},
    {"slow", [](const Cache& cache) { return cache.stats.slow_allocations; }},
    {"peak", [](const Cache& cache) { return cache.stats.peak_active_objects; }},
    {"name", nullptr},
};

std::vector<std::string> sort_names() {
  std::vector<std::string> names;
  for (const NamedKey& key : kSortKeys) {
    names.emplace_back(key.name);
  }
  return names;
}

void sort_caches(std::vector<Cache>& caches, const std::string& by) {
  const auto* found = std::find_if(std::begin(kSortKeys), std::end(kSortKeys),
                                   [&](const NamedKey& key) { return by == key.name; });
  const SortKey key = found == std::end(kSortKeys) ? nullptr : found->key;
  std::stable_sort(caches.begin(), caches.end(), [&](const Cache& a, const Cache& b) {
    return key == nullptr ? a.name < b.name : key(a) > key(b);
  });
}

std::string percent(uint64_t part, uint64_t whole) {
  if (whole == 0) {
    return "-";
  }
  const double ratio = static_cast<double>(part) / static_cast<double>(whole);
  return std::to_string(static_cast<int>(std::min(ratio, 1.0) * 100)) + "%";
}

bool is_shown(const Cache& cache, const CachesOptions& options) {
  return cache.ever_used() || options.all;
}

bool is_live(const Cache& cache) {
  return cache.state == abi::CacheState::kLive;
}

// ":0000064 (sessions, tokens)": what is shared, and by whom.
std::string name_with_aliases(const Cache& cache) {
  std::string name = cache.name;
  for (const std::string& alias : cache.aliases) {
    name += (&alias == &cache.aliases.front() ? " (" : ", ") + alias;
  }
  return cache.aliases.empty() ? name : name + ")";
}

std::string size_text(uint64_t bytes, const CachesOptions& options) {
  return options.bytes ? std::to_string(bytes) : human_bytes(bytes);
}

Color color() {
  return isatty(STDOUT_FILENO) != 0 ? Color::kTerminal : Color::kNever;
}

void print_groups(const Snapshot& snapshot, const CachesOptions& options, std::ostream& out) {
  Table table({{"GROUP", Align::kLeft},
               {"THREADS"},
               {"ACTIVE"},
               {"BYTES"},
               {"HELD"},
               {"LIMIT"},
               {"REFUSED"},
               {"SLABS"},
               {"ALLOCS"},
               {"FREES"}});
  std::vector<GroupTotals> rows = group_totals(snapshot);
  std::stable_sort(rows.begin(), rows.end(), [](const GroupTotals& a, const GroupTotals& b) {
    return a.active_bytes > b.active_bytes;
  });
  for (const GroupTotals& row : rows) {
    const abi::GroupStats* stats = row.group == nullptr ? nullptr : &row.group->stats;
    table.add_row(
        {stats == nullptr       ? "-"
         : row.group->offline() ? row.name + " (offline)"
                                : row.name,
         stats == nullptr ? "-" : std::to_string(stats->threads),
         std::to_string(row.active_objects), size_text(row.active_bytes, options),
         stats == nullptr ? "-" : size_text(stats->held_bytes, options),
         stats == nullptr || stats->limit_bytes == 0 ? "-" : size_text(stats->limit_bytes, options),
         stats == nullptr ? "-" : std::to_string(stats->refused), std::to_string(row.slabs),
         std::to_string(row.allocations), std::to_string(row.frees)});
  }
  table.print(out, color());
}

void print_snapshot(Snapshot snapshot, const CachesOptions& options, CommandContext& context) {
  const auto size = [&](uint64_t bytes) { return size_text(bytes, options); };
  const TargetInfo& target = snapshot.target;
  const FreeBytes free = free_bytes(snapshot);
  context.out << target.comm << " (" << target.pid << ", " << to_string(target.state)
              << "): " << size(active_bytes(snapshot)) << " in use; free: " << size(free.thread)
              << " with threads, " << size(free.partial) << " in slabs, " << size(free.runs)
              << " in pages; " << live_threads(snapshot) << " threads\n";
  if (options.by == "group") {
    print_groups(snapshot, options, context.out);
    return;
  }
  sort_caches(snapshot.caches, options.sort);
  std::vector<Column> columns = {{"CACHE", Align::kLeft},
                                 {"ACTIVE"},
                                 {"OBJECTS"},
                                 {"USE"},
                                 {"BYTES"},
                                 {"SIZE"},
                                 {"SLABS"},
                                 {"ALLOCS"},
                                 {"FREES"},
                                 {"SLOW"}};
  const bool grouped = !snapshot.groups.empty();
  if (grouped) {
    columns.insert(columns.begin() + 1, {"GROUP", Align::kLeft});
  }
  const bool with_state =
      std::any_of(snapshot.caches.begin(), snapshot.caches.end(),
                  [&](const Cache& cache) { return is_shown(cache, options) && !is_live(cache); });
  if (with_state) {
    columns.push_back({"STATE", Align::kLeft});
  }
  Table table(std::move(columns));
  for (const Cache& cache : snapshot.caches) {
    if (!is_shown(cache, options)) {
      continue;
    }
    const bool large = cache.kind == abi::CacheKind::kLarge;
    std::vector<std::string> row = {name_with_aliases(cache),
                                    std::to_string(cache.active_objects()),
                                    large ? "-" : std::to_string(cache.objects()),
                                    large ? "-" : percent(cache.active_objects(), cache.objects()),
                                    size(cache.active_bytes()),
                                    large ? "-" : size(cache.object_size),
                                    large ? "-" : std::to_string(cache.stats.slabs),
                                    std::to_string(cache.allocations),
                                    std::to_string(cache.frees),
                                    std::to_string(cache.stats.slow_allocations)};
    if (grouped) {
      row.insert(row.begin() + 1, cache.group == 0 ? "-" : cache.group_name);
    }
    if (with_state) {
      row.emplace_back(state_name(cache.state));
    }
    table.add_row(std::move(row));
  }
  table.print(context.out, color());
}

void show_one(const CachesOptions& options, CommandContext& context) {
  const Result<TargetInfo> target = resolve_target(options.target);
  if (!target) {
    fail(context, target.failure());
    return;
  }
  Result<Snapshot> snapshot = attach(target->path);
  if (!snapshot) {
    fail(context, snapshot.failure());
    return;
  }
  snapshot->target.state = target->state;
  if (options.json) {
    context.out << dump(snapshot_json(*snapshot));
  } else {
    print_snapshot(std::move(*snapshot), options, context);
  }
}

void show_all(const CachesOptions& options, CommandContext& context) {
  nlohmann::ordered_json json = {{"schema", 1}, {"targets", nlohmann::ordered_json::array()}};
  bool first = true;
  for (const FoundTarget& found : find_targets()) {
    if (!found.info || found.info->state != TargetState::kRunning) {
      continue;
    }
    Result<Snapshot> snapshot = attach(found.path);
    if (!snapshot) {
      continue;
    }
    if (options.json) {
      json["targets"].push_back(snapshot_json(*snapshot));
    } else {
      context.out << (first ? "" : "\n");
      print_snapshot(std::move(*snapshot), options, context);
    }
    first = false;
  }
  if (options.json) {
    context.out << dump(json);
  } else if (first) {
    fail(context, kExitTarget,
         "no process runs under slabscope; start one with `slabscope run -- PROGRAM`, or name a "
         "dead one (`slabscope ps`)");
  }
}

}  // namespace

void add_caches(CLI::App& app, CommandContext& context) {
  auto* command = app.add_subcommand("caches", "What the caches of a process hold now");
  command->footer(kCachesHelp);
  auto options = std::make_shared<CachesOptions>();
  command->add_option("TARGET", options->target, "A pid, a scope file, or part of a command name");
  command->add_option("-s,--sort", options->sort, "Largest first by this; `name`: alphabetically")
      ->check(CLI::IsMember(sort_names()))
      ->capture_default_str();
  command->add_option("--by", options->by, "One row a cache, or a group")
      ->check(CLI::IsMember({"cache", "group"}))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON object instead of a table");
  command->add_flag("-b,--bytes", options->bytes, "Exact sizes in bytes");
  command->add_flag("-a,--all", options->all, "Also caches that were never used");
  command->add_flag("--once", options->once, "Print once and end (the default)");
  command->callback([options, &context] {
    if (options->target.empty()) {
      show_all(*options, context);
    } else {
      show_one(*options, context);
    }
  });
}

}  // namespace slabscope
