// SPDX-License-Identifier: MIT

#include "exporter/source/totals.h"

#include <gtest/gtest.h>

namespace slabscope {
namespace {

TargetInfo target(uint64_t inode, TargetState state = TargetState::kRunning) {
  TargetInfo info;
  info.file = {1, inode};
  info.start_realtime_ns = 100 + inode;
  info.state = state;
  return info;
}

Totals counted(uint64_t allocations) {
  Totals totals;
  totals.counters.released_bytes = allocations * 10;
  totals.caches["malloc-16"].allocations = allocations;
  return totals;
}

// One scan that sees these files.
void scan(Ledger& ledger, const std::vector<std::pair<TargetInfo, uint64_t>>& files,
          uint64_t now_s = 0) {
  ledger.begin_scan();
  for (const auto& [info, allocations] : files) {
    ledger.saw(info, "app", counted(allocations));
  }
  ledger.end_scan(now_s);
}

uint64_t allocations(const Ledger& ledger) {
  const auto totals = ledger.app_totals();
  const auto app = totals.find("app");
  return app == totals.end() ? 0 : app->second.caches.at("malloc-16").allocations;
}

TEST(Ledger, AFileThatGoesAwayGoesOnCounting) {
  Ledger ledger;
  scan(ledger, {{target(1), 10}, {target(2), 5}});
  EXPECT_EQ(allocations(ledger), 15u);
  scan(ledger, {{target(2), 6}});
  EXPECT_EQ(allocations(ledger), 16u);
  scan(ledger, {});
  scan(ledger, {});
  EXPECT_EQ(allocations(ledger), 16u);
  EXPECT_EQ(ledger.app_totals().at("app").counters.released_bytes, 160u);
}

TEST(Ledger, AFileCountsOnceHoweverOftenItIsSeen) {
  Ledger ledger;
  for (int i = 0; i < 5; ++i) {
    scan(ledger, {{target(1, i < 2 ? TargetState::kRunning : TargetState::kDied), 10}});
  }
  EXPECT_EQ(allocations(ledger), 10u);
}

TEST(Ledger, AReusedInodeIsAnotherFile) {
  Ledger ledger;
  scan(ledger, {{target(1), 10}});
  TargetInfo next = target(1);
  next.start_realtime_ns += 1;
  scan(ledger, {{next, 3}});
  EXPECT_EQ(allocations(ledger), 13u);
}

TEST(Ledger, AnUnreadableFileKeepsItsLastCounts) {
  Ledger ledger;
  scan(ledger, {{target(1), 10}});
  ledger.begin_scan();
  ledger.saw_unread({1, 1});
  ledger.end_scan(0);
  EXPECT_EQ(allocations(ledger), 10u);
  scan(ledger, {{target(1), 12}});
  EXPECT_EQ(allocations(ledger), 12u);
}

TEST(Ledger, ADeadFileThatIsNotReadAgainCountsOnce) {
  Ledger ledger;
  scan(ledger, {{target(1, TargetState::kDied), 10}});
  for (int i = 0; i < 3; ++i) {
    ledger.begin_scan();
    ledger.saw_unread({1, 1});
    ledger.end_scan(0);
    EXPECT_EQ(allocations(ledger), 10u);
  }
  scan(ledger, {{target(1, TargetState::kDied), 10}});
  EXPECT_EQ(allocations(ledger), 10u);
  scan(ledger, {});
  EXPECT_EQ(allocations(ledger), 10u);
}

TEST(Ledger, AFileKeepsTheAppItWasFirstSeenWith) {
  Ledger ledger;
  scan(ledger, {{target(1), 10}});
  ledger.begin_scan();
  ledger.saw(target(1), "renamed", counted(11));
  ledger.end_scan(0);
  EXPECT_EQ(allocations(ledger), 11u);
  EXPECT_EQ(ledger.app_of(target(1)), "app");
  EXPECT_EQ(ledger.app_of(target(9)), std::nullopt);
}

TEST(Ledger, DeathIsDatedByTheFirstScanThatSawIt) {
  Ledger ledger;
  scan(ledger, {{target(1), 10}}, 100);
  EXPECT_EQ(ledger.dead_for(target(1), 100), std::nullopt);
  scan(ledger, {{target(1, TargetState::kDied), 10}}, 200);
  scan(ledger, {{target(1, TargetState::kDied), 10}}, 250);
  EXPECT_EQ(ledger.dead_for(target(1), 260), 60u);
}

TEST(Ledger, AppsWithoutFilesAreForgottenAfterAWhile) {
  Ledger ledger;
  scan(ledger, {{target(1), 10}}, 100);
  scan(ledger, {}, 200);
  ledger.forget_after(1000, 3600);
  EXPECT_EQ(allocations(ledger), 10u);
  ledger.forget_after(5000, 3600);
  EXPECT_TRUE(ledger.app_totals().empty());
}

}  // namespace
}  // namespace slabscope
