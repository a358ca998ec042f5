// SPDX-License-Identifier: MIT

#include <CLI/App.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <ostream>

#include "exporter/base/signals.h"
#include "exporter/commands/commands.h"
#include "exporter/output/event_text.h"
#include "exporter/output/phrases.h"
#include "exporter/source/event_reader.h"
#include "exporter/source/targets.h"

namespace slabscope {
namespace {

constexpr const char* kEventsHelp = R"(
What happens to the caches of a process, an event a line: created, destroyed, a destroy refused,
detached, released; tracking switched; memory not to be had; misuse. First what is remembered (the
last 1024 events), then what comes, until the process ends or ^C. Also of a process that has ended.
Without TARGET: of every running process, also of those that start meanwhile.

  --json prints an object a line (docs/events.md); "lost" tells of events that came too fast.

Examples:
  slabscope events server
  slabscope events 4711 --once --json | jq -r .message

Exit codes: 0; 2 usage; 3 target missing or unreadable.
)";

constexpr int kBetweenLooksMs = 100;
constexpr int kLooksPerScan = 10;  // looks for new processes

struct EventsOptions {
  std::string target;
  bool json = false;
  bool once = false;
};

// HH:MM:SS.micros of the day, after the date.
std::string time_text(uint64_t realtime_ns) {
  std::string date = date_text(realtime_ns);
  date.resize(std::min(date.find(" UTC"), date.size()));
  return fmt::format("{}.{:06}Z", date, realtime_ns % 1'000'000'000 / 1000);
}

class EventStream {
 public:
  EventStream(const EventsOptions& options, CommandContext& context)
      : options_(options), context_(context) {}

  void add(EventReader reader) {
    const FileId id = reader.target().file;
    readers_.emplace(id, std::move(reader));
  }
  bool knows(FileId id) const { return readers_.contains(id); }
  bool empty() const { return readers_.empty(); }

  // Prints what is new; processes that ended are told to the end and then forgotten.
  void look() {
    struct Row {
      uint64_t when;
      std::string text;
    };
    std::vector<Row> rows;
    for (auto entry = readers_.begin(); entry != readers_.end();) {
      EventReader& reader = entry->second;
      const bool alive = reader.alive();
      const EventReader::Batch batch = reader.next();
      if (batch.lost != 0) {
        rows.push_back({batch.events.empty() ? 0 : batch.events.front().realtime_ns,
                        lost_line(reader.target(), batch.lost)});
      }
      for (const HeapEvent& event : batch.events) {
        rows.push_back({event.realtime_ns, line(reader.target(), event)});
      }
      entry = alive ? std::next(entry) : readers_.erase(entry);
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [](const Row& a, const Row& b) { return a.when < b.when; });
    for (const Row& row : rows) {
      context_.out << row.text << '\n';
    }
    context_.out.flush();
  }

 private:
  static std::string compact(const nlohmann::ordered_json& json) {
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }
  std::string line(const TargetInfo& target, const HeapEvent& event) const {
    if (!options_.json) {
      return fmt::format("{}  {} ({})  {}", time_text(event.realtime_ns), target.comm, target.pid,
                         event_message(event));
    }
    nlohmann::ordered_json json = {{"schema", 1}, {"pid", target.pid}, {"comm", target.comm}};
    json.update(event_json(event));
    return compact(json);
  }
  std::string lost_line(const TargetInfo& target, uint64_t lost) const {
    if (!options_.json) {
      return fmt::format("{} ({}): {} lost, they came too fast", target.comm, target.pid,
                         counted(lost, "event"));
    }
    return compact({{"schema", 1},
                    {"pid", target.pid},
                    {"comm", target.comm},
                    {"event", "lost"},
                    {"value", lost}});
  }

  const EventsOptions& options_;
  CommandContext& context_;
  std::map<FileId, EventReader> readers_;
};

void add_running(EventStream& stream) {
  for (const FoundTarget& found : find_targets()) {
    if (!found.info || found.info->state != TargetState::kRunning || stream.knows(found.file)) {
      continue;
    }
    Result<EventReader> reader = EventReader::open(found.path);
    if (reader) {
      stream.add(std::move(*reader));
    }
  }
}

void show_events(const EventsOptions& options, CommandContext& context) {
  EventStream stream(options, context);
  const bool every = options.target.empty();
  if (every) {
    add_running(stream);
  } else {
    const Result<TargetInfo> target = resolve_target(options.target);
    if (!target) {
      fail(context, target.failure());
      return;
    }
    Result<EventReader> reader = EventReader::open(target->path);
    if (!reader) {
      fail(context, reader.failure());
      return;
    }
    stream.add(std::move(*reader));
  }
  const BlockedSignals signals({SIGINT, SIGTERM});
  stream.look();
  for (int look = 1; !options.once && context.out; ++look) {
    if (stream.empty() && !every) {
      return;
    }
    if (signals.wait(kBetweenLooksMs).si_signo != 0) {
      return;
    }
    if (every && look % kLooksPerScan == 0) {
      add_running(stream);
    }
    stream.look();
  }
}

}  // namespace

void add_events(CLI::App& app, CommandContext& context) {
  auto* command = app.add_subcommand("events", "What happens to the caches of a process");
  command->footer(kEventsHelp);
  auto options = std::make_shared<EventsOptions>();
  command->add_option("TARGET", options->target, "A pid, a scope file, or part of a command name");
  command->add_flag("--json", options->json, "An object a line");
  command->add_flag("--once,--no-follow", options->once, "What is remembered, and no more");
  command->callback([options, &context] { show_events(*options, context); });
}

}  // namespace slabscope
