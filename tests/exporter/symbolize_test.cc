// SPDX-License-Identifier: MIT

#include "exporter/analysis/symbolize.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include "tests/exporter/fixture.h"

namespace slabscope {
namespace {

using testing::Fixture;
using testing::kFixtures;
using testing::library;
using testing::mapped_module;
using testing::number;
using testing::Scratch;

void expect_frame(const SymbolFrame& frame, const std::string& function, int line, bool inlined) {
  EXPECT_EQ(frame.function, function);
  EXPECT_EQ(std::filesystem::path(frame.file).filename(), "places.cc");
  EXPECT_TRUE(frame.file.starts_with('/')) << frame.file;
  EXPECT_EQ(frame.line, static_cast<uint32_t>(line));
  EXPECT_EQ(frame.inlined, inlined);
}

void expect_full_answers(const Fixture& fixture) {
  const Places& places = fixture.places();
  const std::vector<SymbolFrame> chain = fixture.frames(places.in_inlined);
  ASSERT_EQ(chain.size(), 3u);
  expect_frame(chain[0], "fixture::(anonymous namespace)::inner", places.inner_line, true);
  expect_frame(chain[1], "fixture::(anonymous namespace)::middle", places.middle_line, true);
  expect_frame(chain[2], "fixture::outer(int)", places.outer_line, false);
  const std::vector<SymbolFrame> method = fixture.frames(places.in_method);
  ASSERT_EQ(method.size(), 1u);
  expect_frame(method[0], "fixture::Counter::count(int) const", places.method_line, false);
  const std::vector<SymbolFrame> c_function = fixture.frames(places.in_c_function);
  ASSERT_EQ(c_function.size(), 1u);
  expect_frame(c_function[0], "fixture_c_function", places.c_line, false);
}

std::string output_of(const std::string& command) {
  std::string text;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  char buffer[4096];
  while (pipe != nullptr && std::fgets(buffer, sizeof buffer, pipe.get()) != nullptr) {
    text += buffer;
  }
  return text;
}

TEST(Symbolize, NamesInlineChainsFromDwarf4) {
  expect_full_answers(Fixture(library("fixture_dwarf4")));
}

TEST(Symbolize, NamesInlineChainsFromDwarf5) {
  expect_full_answers(Fixture(library("fixture_dwarf5")));
}

TEST(Symbolize, ReadsCompressedSections) {
  expect_full_answers(Fixture(library("fixture_compressed")));
}

TEST(Symbolize, FollowsTheDebugLink) {
  expect_full_answers(Fixture(library("fixture_apart")));
}

TEST(Symbolize, FindsDebugFilesByBuildId) {
  Fixture fixture(library("fixture_apart"));
  const Scratch scratch;
  const std::string copy = scratch / "elsewhere.so";  // its debug link leads nowhere
  std::filesystem::copy(fixture.module().path, copy);
  std::string hex;
  for (const uint8_t byte : fixture.module().build_id) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    hex += digits;
  }
  fixture.module().path = copy;
  EXPECT_EQ(fixture.frames(fixture.places().in_inlined)[0].line, 0u);

  const std::string directory = scratch / ".build-id/" + hex.substr(0, 2);
  std::filesystem::create_directories(directory);
  std::filesystem::copy(kFixtures + "/.debug/fixture_apart.debug",
                        directory + "/" + hex.substr(2) + ".debug");
  SymbolizerOptions options;
  options.debug_dirs = {scratch.path()};
  Symbolizer symbolizer(options);
  symbolizer.begin_process(std::span(&fixture.module(), 1), {});
  EXPECT_EQ(symbolizer.symbolize(number(fixture.places().in_inlined), 1).size(), 3u);
}

TEST(Symbolize, FallsBackToTheSymbolTable) {
  Fixture fixture(library("fixture_plain"));
  const std::vector<SymbolFrame> frames = fixture.frames(fixture.places().in_method);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(frames[0].function.starts_with("fixture::Counter::count(int) const"));
  EXPECT_GT(frames[0].symbol_offset, 0u);
  EXPECT_EQ(frames[0].line, 0u);
}

TEST(Symbolize, NamesExportedFunctionsOfStrippedFiles) {
  Fixture fixture(library("fixture_stripped"));
  EXPECT_EQ(fixture.frames(fixture.places().in_c_function)[0].function, "fixture_c_function");
}

TEST(Symbolize, GivesModuleAndOffsetIfFilesMayNotBeOpened) {
  Fixture fixture(library("fixture_dwarf5"));
  SymbolizerOptions options;
  options.open_files = false;
  Symbolizer symbolizer(options);
  symbolizer.begin_process(std::span(&fixture.module(), 1), {});
  const uint64_t address = number(fixture.places().in_method);
  const std::vector<SymbolFrame> frames = symbolizer.symbolize(address, 1);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].function, "");
  EXPECT_EQ(frames[0].module, fixture.module().path);
  EXPECT_EQ(frames[0].offset, address - fixture.module().bias);
  EXPECT_EQ(frames[0].build_id.size(), 40u);
}

// Runs print_places_*, and looks its address up afterwards, when the process is gone.
void expect_program(const std::string& name) {
  const std::string path = kFixtures + "/" + name;
  Places places{};
  void* main_address = nullptr;
  ASSERT_EQ(std::sscanf(output_of("exec " + path).c_str(), "%p %d %d %d %p", &places.in_inlined,
                        &places.inner_line, &places.middle_line, &places.outer_line, &main_address),
            5);
  Module module;
  module.path = path;
  const std::string symbols = output_of("nm " + path);
  std::smatch match;
  ASSERT_TRUE(std::regex_search(symbols, match, std::regex("([0-9a-f]+) T main\n")));
  module.bias = number(main_address) - std::stoull(match[1], nullptr, 16);
  module.start = number(main_address) - (1 << 16);
  module.end = number(main_address) + (1 << 16);
  module.build_id = ElfFile::open(-1, path)->build_id();
  Symbolizer symbolizer;
  symbolizer.begin_process(std::span(&module, 1), {});
  const std::vector<SymbolFrame> chain = symbolizer.symbolize(number(places.in_inlined), 1);
  ASSERT_EQ(chain.size(), 3u);
  EXPECT_EQ(chain[0].line, static_cast<uint32_t>(places.inner_line));
  EXPECT_EQ(chain[1].line, static_cast<uint32_t>(places.middle_line));
  expect_frame(chain[2], "fixture::outer(int)", places.outer_line, false);
}

TEST(Symbolize, WorksForProgramsThatAreLoadedAnywhere) {
  expect_program("print_places_pie");
}

TEST(Symbolize, WorksForProgramsWithFixedAddresses) {
  expect_program("print_places_fixed");
}

TEST(Symbolize, NamesTheVdso) {
  void* vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
  void* function = vdso != nullptr ? dlsym(vdso, "__vdso_clock_gettime") : nullptr;
  if (function == nullptr) {
    GTEST_SKIP() << "no vdso";
  }
  Module module = mapped_module(function);
  module.path = "[vdso]";
  const auto image =
      ElfFile::from_memory(std::vector<char>(reinterpret_cast<const char*>(module.start),
                                             reinterpret_cast<const char*>(module.start) + 4096),
                           "[vdso]");
  ASSERT_NE(image, nullptr);
  module.build_id = image->build_id();
  Symbolizer symbolizer;
  symbolizer.begin_process(std::span(&module, 1), {});
  const SymbolFrame frame = symbolizer.symbolize(number(function) + 2, 1)[0];
  EXPECT_TRUE(frame.function.ends_with("clock_gettime")) << frame.function;
}

TEST(Symbolize, FindsDeletedFilesThroughTheLivingProcess) {
  const Scratch scratch;
  const std::string copy = scratch / "deleted.so";
  std::filesystem::copy(library("fixture_dwarf5"), copy);
  const Fixture fixture(copy);
  std::filesystem::remove(copy);
  ProcessContext context;
  context.live_pid = getpid();
  const std::vector<SymbolFrame> frames = fixture.frames(fixture.places().in_inlined, context);
  if (access("/proc/self/map_files", R_OK | X_OK) != 0 || geteuid() != 0) {
    GTEST_SKIP() << "/proc/PID/map_files needs privileges";
  }
  EXPECT_EQ(frames.size(), 3u);
}

TEST(Symbolize, ChoosesTheModuleOfTheStacksTime) {
  Fixture fixture(library("fixture_dwarf5"));
  Module before = fixture.module();
  before.path = "/gone/plugin.so";
  before.build_id.assign(20, 1);
  before.loaded_generation = 1;
  before.unloaded_generation = 3;
  fixture.module().loaded_generation = 3;
  const Module modules[] = {before, fixture.module()};
  Symbolizer symbolizer;
  symbolizer.begin_process(modules, {});
  const uint64_t address = number(fixture.places().in_method);
  EXPECT_EQ(symbolizer.symbolize(address, 2)[0].module, "/gone/plugin.so");
  EXPECT_EQ(symbolizer.symbolize(address, 3)[0].function, "fixture::Counter::count(int) const");
}

TEST(Symbolize, KnowsModulesThatWereNoticedLate) {
  Fixture fixture(library("fixture_dwarf5"));
  fixture.module().loaded_generation = 7;
  Symbolizer symbolizer;
  symbolizer.begin_process(std::span(&fixture.module(), 1), {});
  EXPECT_NE(symbolizer.symbolize(number(fixture.places().in_method), 6)[0].function, "");
}

TEST(Symbolize, AddressesOutsideOfAllModulesAreNumbers) {
  Symbolizer symbolizer;
  symbolizer.begin_process({}, {});
  for (const uint64_t address : {uint64_t{0}, uint64_t{1}, uint64_t{0x1234}, UINT64_MAX}) {
    const std::vector<SymbolFrame> frames = symbolizer.symbolize(address, 1);
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(frames[0].module, "");
    EXPECT_EQ(frames[0].offset, address);
  }
}

// ---- against addr2line ----------------------------------------------------------------------

// Lines of all frames of each address, as addr2line -i sees them.
std::vector<std::vector<uint32_t>> lines_from_addr2line(const std::string& path,
                                                        const std::vector<uint64_t>& addresses) {
  const Scratch scratch;
  std::ofstream list(scratch / "addresses");
  for (const uint64_t address : addresses) {
    list << std::hex << address << '\n';
  }
  list.close();
  const std::string text =
      output_of("addr2line -a -i -f -e " + path + " < " + (scratch / "addresses"));
  std::vector<std::vector<uint32_t>> all;
  std::istringstream stream(text);
  std::string line;
  while (std::getline(stream, line)) {
    if (line.starts_with("0x")) {
      all.emplace_back();
    } else if (const size_t colon = line.rfind(':');
               colon != std::string::npos && !all.empty() && line.find('/') != std::string::npos) {
      all.back().push_back(static_cast<uint32_t>(std::atoi(line.c_str() + colon + 1)));
    }
  }
  return all;
}

// The share of `count` random addresses of .text whose chain of lines is the same.
double agreement(const std::string& path, const std::string& debug_path, size_t count) {
  const std::string sections = output_of("readelf -WS " + path);
  std::smatch match;
  if (!std::regex_search(sections, match,
                         std::regex(" \\.text +PROGBITS +([0-9a-f]+) +[0-9a-f]+ +([0-9a-f]+)"))) {
    return 0;
  }
  const uint64_t start = std::stoull(match[1], nullptr, 16);
  const uint64_t size = std::stoull(match[2], nullptr, 16);
  std::mt19937_64 random(7);
  std::vector<uint64_t> addresses(count);
  for (uint64_t& address : addresses) {
    address = start + random() % size;
  }
  const std::vector<std::vector<uint32_t>> theirs = lines_from_addr2line(debug_path, addresses);
  Module module;
  module.path = path;
  module.end = UINT64_MAX;
  module.build_id = ElfFile::open(-1, path)->build_id();
  Symbolizer symbolizer;
  symbolizer.begin_process(std::span(&module, 1), {});
  size_t same = 0;
  for (size_t i = 0; i < addresses.size() && i < theirs.size(); ++i) {
    std::vector<uint32_t> ours;
    for (const SymbolFrame& frame : symbolizer.symbolize(addresses[i] + 1, 1)) {
      if (!frame.file.empty()) {
        ours.push_back(frame.line);
      }
    }
    same += ours == theirs[i] ? 1 : 0;
  }
  return static_cast<double>(same) / static_cast<double>(count);
}

// binutils 2.40 itself errs on a few addresses in a thousand (file of DWARF 5 partial units).
constexpr double kAgreement = 0.98;

bool has_addr2line() {
  return std::system("addr2line --version >/dev/null 2>&1") == 0;
}

TEST(Symbolize, AgreesWithAddr2lineOnItsOwnTests) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  if (!has_addr2line() || !ElfFile::open(-1, self)->has_dwarf()) {
    GTEST_SKIP() << "no addr2line, or no debug information";
  }
  EXPECT_GE(agreement(self, self, 1000), kAgreement);
}

TEST(Symbolize, AgreesWithAddr2lineOnOptimizedCode) {
  if (!has_addr2line()) {
    GTEST_SKIP() << "no addr2line";
  }
  for (const char* name : {"fixture_dwarf4", "fixture_dwarf5"}) {
    EXPECT_GE(agreement(library(name), library(name), 1000), kAgreement) << name;
  }
  EXPECT_GE(agreement(library("fixture_apart"), kFixtures + "/.debug/fixture_apart.debug", 1000),
            kAgreement);
}

}  // namespace
}  // namespace slabscope
