// SPDX-License-Identifier: MIT
//
// The command line as a user meets it: what is printed where, and the exit codes.

#include "exporter/cli.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>

#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScopeFile;
using testing::ScratchDirectory;
using testing::SegmentBuilder;

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

Outcome run_cli(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "slabscope");
  std::vector<char*> argv;
  for (std::string& argument : arguments) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  Outcome outcome;
  outcome.code = run_command_line(static_cast<int>(arguments.size()), argv.data());
  outcome.out = ::testing::internal::GetCapturedStdout();
  outcome.err = ::testing::internal::GetCapturedStderr();
  return outcome;
}

// A scratch directory as $SLABSCOPE_DIR, and a library that is no shim as $SLABSCOPE_LIB.
class CommandLine : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("SLABSCOPE_DIR", scratch_.path().c_str(), 1);
    setenv("SLABSCOPE_LIB", "/lib/x86_64-linux-gnu/libm.so.6", 1);
  }
  void TearDown() override {
    unsetenv("SLABSCOPE_DIR");
    unsetenv("SLABSCOPE_LIB");
  }
  static bool has_stand_in() { return access("/lib/x86_64-linux-gnu/libm.so.6", R_OK) == 0; }

  ScopeFile process(std::string_view comm) {
    SegmentBuilder builder;
    builder.pid(4'000'000'001).comm(comm).add_cache(2, "malloc-32", 32);
    builder.add_cache(9, "malloc-144", 144);
    builder.count(0, 2, 7, 2);
    builder.count(0, 9, 3, 0);
    return builder.write(scratch_);
  }

  ScratchDirectory scratch_;
};

void expect_usage_error(const Outcome& outcome) {
  EXPECT_EQ(outcome.code, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(outcome.err.starts_with("slabscope: ")) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
}

TEST_F(CommandLine, UsageErrorsAreOneLineAndTwo) {
  expect_usage_error(run_cli({"nonsense"}));
  expect_usage_error(run_cli({"ps", "--nonsense"}));
  expect_usage_error(run_cli({"caches", "--sort", "colour"}));
  expect_usage_error(run_cli({"run"}));
  expect_usage_error(run_cli({"run", "--track", "some", "--", "true"}));
  expect_usage_error(run_cli({"run", "--listen", "nowhere", "--", "true"}));
  expect_usage_error(run_cli({"serve", "--listen", "1.2.3.4:99999"}));
  expect_usage_error(run_cli({"serve", "--cache-include", "("}));
  expect_usage_error(run_cli({"serve", "--reap-after", "-1"}));
}

TEST_F(CommandLine, HelpTeachesAndSucceeds) {
  for (const char* command : {"run", "ps", "caches", "serve", "options", "report", "leaks"}) {
    const Outcome outcome = run_cli({command, "--help"});
    EXPECT_EQ(outcome.code, 0) << command;
    EXPECT_NE(outcome.out.find("Example"), std::string::npos) << command;
  }
  EXPECT_EQ(run_cli({"--version"}).out, "slabscope " SLABSCOPE_VERSION "\n");
}

TEST_F(CommandLine, AMissingTargetIsThree) {
  const Outcome outcome = run_cli({"caches", "no-such-process-anywhere"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_NE(outcome.err.find("slabscope ps"), std::string::npos);
  EXPECT_EQ(run_cli({"caches", "/nonexistent.scope"}).code, 3);
}

TEST_F(CommandLine, CachesPrintsTheUsedOnesLargestFirst) {
  const ScopeFile file = process("uncommon-name");
  const Outcome outcome = run_cli({"caches", "uncommon-name"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_NE(outcome.out.find("CACHE"), std::string::npos);
  EXPECT_LT(outcome.out.find("malloc-144"), outcome.out.find("malloc-32"));
  EXPECT_EQ(outcome.out.find('\033'), std::string::npos);  // no terminal, no colour
  const Outcome by_name = run_cli({"caches", "uncommon-name", "--sort", "active"});
  EXPECT_LT(by_name.out.find("malloc-32"), by_name.out.find("malloc-144"));
}

TEST_F(CommandLine, JsonIsOneObject) {
  const ScopeFile file = process("uncommon-name");
  const auto caches = nlohmann::json::parse(run_cli({"caches", file.path(), "--json"}).out);
  EXPECT_EQ(caches["target"]["comm"], "uncommon-name");
  EXPECT_EQ(caches["caches"].size(), 2u);
  const auto ps = nlohmann::json::parse(run_cli({"ps", "--json"}).out);
  const auto& targets = ps["targets"];
  EXPECT_TRUE(std::any_of(targets.begin(), targets.end(), [](const auto& target) {
    return target.value("comm", "") == "uncommon-name" && target["state"] == "died";
  }));
  const auto options = nlohmann::json::parse(run_cli({"options", "--json"}).out);
  EXPECT_EQ(options["options"][0]["name"], "SLABSCOPE_TRACK");
}

TEST_F(CommandLine, RunHasItsProgramsExitCode) {
  if (!has_stand_in()) {
    GTEST_SKIP() << "no library to stand in for the shim";
  }
  EXPECT_EQ(run_cli({"run", "--", "sh", "-c", "exit 7"}).code, 7);
  EXPECT_EQ(run_cli({"run", "--", "sh", "-c", "kill -9 $$"}).code, 137);
  EXPECT_EQ(run_cli({"run", "--", "sh", "-c", "kill -TERM $$"}).code, 143);
  EXPECT_EQ(run_cli({"run", "--fail-on-leak", "true"}).code, 0);
}

TEST_F(CommandLine, RunTellsWhyAProgramCannotRun) {
  if (!has_stand_in()) {
    GTEST_SKIP() << "no library to stand in for the shim";
  }
  EXPECT_EQ(run_cli({"run", "--", "no-such-program-anywhere"}).code, 127);
  EXPECT_EQ(run_cli({"run", "--", scratch_.path()}).code, 126);
  setenv("SLABSCOPE_LIB", "/nonexistent/lib.so", 1);
  const Outcome outcome = run_cli({"run", "--", "true"});
  EXPECT_EQ(outcome.code, 125);
  EXPECT_NE(outcome.err.find("SLABSCOPE_LIB"), std::string::npos);
}

TEST_F(CommandLine, RunPassesOptionsAndEnvironmentToItsProgram) {
  if (!has_stand_in()) {
    GTEST_SKIP() << "no library to stand in for the shim";
  }
  const std::string script = "test \"$SLABSCOPE_TRACK $1 $2\" = 'sampled:64 -d --listen'";
  EXPECT_EQ(
      run_cli({"run", "--track", "sampled:64", "sh", "-c", script, "x", "-d", "--listen"}).code, 0);
  EXPECT_EQ(run_cli({"run", "sh", "-c", "test \"$LD_PRELOAD\" = \"$SLABSCOPE_LIB\""}).code, 0);
}

TEST_F(CommandLine, RunWithoutAScopeFileSaysSoAndKeepsTheExitCode) {
  if (!has_stand_in()) {
    GTEST_SKIP() << "no library to stand in for the shim";
  }
  const Outcome outcome = run_cli({"run", "--", "sh", "-c", "echo mine; exit 4"});
  EXPECT_EQ(outcome.code, 4);
  EXPECT_NE(outcome.err.find("no scope file"), std::string::npos);
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1);
  EXPECT_EQ(outcome.out, "mine\n");  // nothing of ours
}

}  // namespace
}  // namespace slabscope
