// SPDX-License-Identifier: MIT

#include "exporter/symbolize.h"

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

#include "exporter/demangle.h"
#include "exporter/elf_symbols.h"
#include "tests/exporter/fixtures/places.h"

namespace slabscope {
namespace {

const std::string kFixtures = SLABSCOPE_FIXTURES;

class Scratch {
 public:
  Scratch() {
    std::string name = "/tmp/slabscope-symbolize-XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// What the shim would have recorded about the mapped object around `address`.
Module mapped_module(const void* address) {
  struct Search {
    uint64_t address;
    Module module;
  } search{reinterpret_cast<uint64_t>(address), {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto* wanted = static_cast<Search*>(data);
        uint64_t low = UINT64_MAX;
        uint64_t high = 0;
        for (size_t i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type == PT_LOAD) {
            low = std::min<uint64_t>(low, info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
            high = std::max<uint64_t>(
                high, info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz);
          }
        }
        if (wanted->address >= low && wanted->address < high) {
          wanted->module.start = low;
          wanted->module.end = high;
          wanted->module.bias = info->dlpi_addr;
          wanted->module.path = info->dlpi_name[0] != '\0'
                                    ? info->dlpi_name
                                    : std::filesystem::read_symlink("/proc/self/exe").string();
        }
        return 0;
      },
      &search);
  if (const auto file = ElfFile::open(-1, search.module.path); file != nullptr) {
    search.module.build_id = file->build_id();
  }
  return search.module;
}

uint64_t number(const void* address) {
  return reinterpret_cast<uint64_t>(address);
}

// A fixture library, loaded, and the module that it is.
class Fixture {
 public:
  explicit Fixture(const std::string& path) : handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    EXPECT_NE(handle_, nullptr) << dlerror();
    auto* function = reinterpret_cast<Places (*)()>(dlsym(handle_, "fixture_places"));
    places_ = function();
    module_ = mapped_module(places_.in_inlined);
  }
  ~Fixture() { dlclose(handle_); }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;

  const Places& places() const { return places_; }
  Module& module() { return module_; }

  std::vector<SymbolFrame> frames(const void* address, const ProcessContext& context = {}) const {
    Symbolizer symbolizer;
    symbolizer.begin_process(std::span(&module_, 1), context);
    return symbolizer.symbolize(number(address), 1);
  }

 private:
  void* handle_;
  Places places_{};
  Module module_;
};

std::string library(const std::string& name) {
  return kFixtures + "/lib" + name + ".so";
}

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

TEST(SymbolizeDeathTest, ForgetsDebuginfodServers) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";  // a fresh process
  EXPECT_EXIT(
      {
        setenv("DEBUGINFOD_URLS", "http://127.0.0.1:1/", 1);
        const Symbolizer symbolizer;
        _exit(getenv("DEBUGINFOD_URLS") == nullptr ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

// ---- against addr2line ---------------------------------------------------------------------------

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

// ---- what a hostile target may claim -------------------------------------------------------------

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
  std::ofstream(scratch / "empty");
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

// ---- names -----------------------------------------------------------------------------------------

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
