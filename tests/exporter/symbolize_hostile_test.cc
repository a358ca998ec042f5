// SPDX-License-Identifier: MIT
//
// What a hostile target may claim about its modules and their names.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "exporter/analysis/demangle.h"
#include "exporter/analysis/symbolize.h"
#include "tests/exporter/fixture.h"

namespace slabscope {
namespace {

using testing::Fixture;
using testing::library;
using testing::Scratch;

SymbolFrame frame_of_path(const std::string& path, const std::vector<uint8_t>& build_id,
                          const ProcessContext& context = {}) {
  Module module;
  module.start = 0x1000;
  module.end = 0x100000;
  module.path = path;
  module.build_id = build_id;
  Symbolizer symbolizer;
  symbolizer.begin_process(std::span(&module, 1), context);
  const std::vector<SymbolFrame> frames = symbolizer.symbolize(0x2000, 1);
  EXPECT_EQ(frames.size(), 1u);
  return frames[0];
}

TEST(SymbolizeHostile, OddFilesAreNotOpened) {
  const Scratch scratch;
  const std::string fifo = scratch / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  std::filesystem::create_symlink("loop", scratch / "loop");
  std::ofstream(scratch / "empty") << "";
  std::ofstream(scratch / "text") << "not an ELF file";
  std::ofstream(scratch / "magic") << "\177ELF";
  for (const std::string& path :
       {std::string("/"), std::string("/dev/zero"), std::string("/dev/tty"),
        std::string("/proc/kcore"), std::string("/proc/self/mem"), std::string("relative/path"),
        std::string(), std::string(1, '\0'), std::string("/etc/passwd\0.so", 15),
        std::string(100000, '/'), scratch.path(), fifo, scratch / "loop", scratch / "empty",
        scratch / "text", scratch / "magic"}) {
    for (const int live_pid : {0, static_cast<int>(getpid())}) {
      ProcessContext context;
      context.live_pid = live_pid;
      const SymbolFrame frame = frame_of_path(path, std::vector<uint8_t>(20, 7), context);
      EXPECT_EQ(frame.function, "") << path;
      EXPECT_EQ(frame.offset, 0x2000u);
    }
  }
}

TEST(SymbolizeHostile, AnotherBuildIsNotBelieved) {
  Fixture fixture(library("fixture_dwarf5"));
  fixture.module().build_id.back() ^= 1;
  EXPECT_EQ(fixture.frames(fixture.places().in_method)[0].function, "");
  fixture.module().build_id.clear();  // the file has one, so it is not what was loaded
  EXPECT_EQ(fixture.frames(fixture.places().in_method)[0].function, "");
}

TEST(SymbolizeHostile, FilesWithoutBuildIdMustBeOlderThanTheProcess) {
  const Scratch scratch;
  const std::string path = scratch / "noid.so";
  if (std::system(
          ("objcopy --remove-section .note.gnu.build-id " + library("fixture_dwarf5") + " " + path)
              .c_str()) != 0) {
    GTEST_SKIP() << "no objcopy";
  }
  Fixture fixture(path);
  ASSERT_TRUE(fixture.module().build_id.empty());
  ProcessContext context;
  context.start_realtime_ns = static_cast<uint64_t>(time(nullptr) + 10) * 1'000'000'000;
  EXPECT_NE(fixture.frames(fixture.places().in_method, context)[0].function, "");
  context.start_realtime_ns = 1'000'000'000;
  EXPECT_EQ(fixture.frames(fixture.places().in_method, context)[0].function, "");
}

TEST(SymbolizeHostile, LinksDoNotLeaveTheProcessesRoot) {
  const Scratch scratch;
  std::filesystem::create_directories(scratch / "usr");
  std::filesystem::create_symlink(library("fixture_dwarf5"), scratch / "usr/absolute.so");
  std::filesystem::copy(library("fixture_dwarf5"), scratch / "usr/inside.so");
  std::filesystem::create_symlink("/usr/inside.so", scratch / "usr/link.so");
  const UniqueFd root(open(scratch.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!open_regular(root.get(), "/usr/inside.so").valid()) {
    GTEST_SKIP() << "no openat2";
  }
  EXPECT_TRUE(open_regular(root.get(), "/usr/link.so").valid());
  EXPECT_TRUE(open_regular(root.get(), "/../../usr/inside.so").valid());
  EXPECT_FALSE(open_regular(root.get(), "/usr/absolute.so").valid());
}

TEST(SymbolizeHostile, DamagedFilesAreSurvived) {
  Fixture fixture(library("fixture_dwarf5"));
  std::ifstream input(fixture.module().path, std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(input), {}};
  const Scratch scratch;
  std::mt19937 random(11);
  const Places& places = fixture.places();
  const uint64_t bias = fixture.module().bias;
  for (int round = 0; round < 150; ++round) {
    std::string bad = good;
    if (round % 5 == 0) {
      bad.resize(random() % bad.size());
    }
    for (size_t i = 0; i < 1u << (round % 10) && !bad.empty(); ++i) {
      const size_t at = random() % bad.size();
      bad[at < 1024 ? at / 2 + bad.size() / 2 : at] = static_cast<char>(random());
    }
    const std::string path = scratch / "bad.so";
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bad;
    fixture.module().path = path;
    for (const void* address : {places.in_inlined, places.in_method, places.in_c_function}) {
      EXPECT_GE(fixture.frames(address).size(), 1u);
    }
    Symbolizer symbolizer;
    symbolizer.begin_process(std::span(&fixture.module(), 1), {});
    for (uint64_t offset = 0; offset < 0x8000; offset += 97) {
      EXPECT_GE(symbolizer.symbolize(bias + offset, 1).size(), 1u);
    }
  }
}

TEST(SymbolizeHostile, AbsurdModulesAreSurvived) {
  std::vector<Module> modules(2048);
  std::mt19937_64 random(3);
  for (Module& module : modules) {
    module.start = random();
    module.end = random();
    module.bias = random();
    module.path = random() % 2 == 0 ? "/dev/null" : "/nonexistent";
    module.build_id.resize(random() % 40);
    module.loaded_generation = static_cast<uint32_t>(random());
    module.unloaded_generation = static_cast<uint32_t>(random());
  }
  Symbolizer symbolizer;
  symbolizer.begin_process(modules, {});
  for (int i = 0; i < 1000; ++i) {
    EXPECT_GE(symbolizer.symbolize(random(), static_cast<uint32_t>(random())).size(), 1u);
  }
}

// ---- names ----------------------------------------------------------------------------------

TEST(Demangle, NamesPeopleWrite) {
  EXPECT_EQ(demangle("main"), "main");
  EXPECT_EQ(demangle("_ZN5leaky7SessionC1Em"), "leaky::Session::Session(unsigned long)");
  EXPECT_EQ(demangle("memcpy@@GLIBC_2.14"), "memcpy");
  EXPECT_EQ(demangle("_Znot mangled"), "_Znot mangled");
  EXPECT_EQ(demangle(""), "");
}

TEST(Demangle, RefusesNamesThatExplode) {
  std::string name = "_Z1f1AIiiES_IS0_S0_E";
  for (int i = 1; i < 30; ++i) {
    const char digit = i <= 10 ? static_cast<char>('0' + i - 1) : static_cast<char>('A' + i - 11);
    const std::string last = std::string("S") + digit + "_";
    name += "S_I" + last + last + "E";
  }
  EXPECT_FALSE(demangling_is_cheap(name));
  EXPECT_EQ(demangle(name), name);
  EXPECT_LE(demangle("_Z" + std::string(100000, 'S')).size(), kMaxFunctionName);
  EXPECT_LE(demangle(std::string(100000, 'x')).size(), kMaxFunctionName);
}

}  // namespace
}  // namespace slabscope
