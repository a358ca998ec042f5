// SPDX-License-Identifier: MIT

#include "diag/exit_report.h"

#include <cstring>
#include <fstream>
#include <sstream>

#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::ScopeFixture;

class ExitReportTest : public ScopeFixture {
 protected:
  void SetUp() override {
    ScopeFixture::SetUp();
    open_tables();
    modules().add_loaded();
  }
  std::string report(RemainderOf remainder_of) {
    const std::string path = directory_ + "/report.%p";
    const int fd = open_report(path.c_str());
    EXPECT_GE(fd, 0);
    write_exit_report(fd, file(), depot(), 4, remainder_of, nullptr);
    close_report(fd);
    std::ifstream in(directory_ + "/report." + std::to_string(getpid()));
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
};

CacheRemainder some(uint32_t id, void*) {
  return id == 2 ? CacheRemainder{3, 96} : CacheRemainder{};
}

TEST_F(ExitReportTest, ListsCachesAndTheLargestStacksFirst) {
  ASSERT_TRUE(file().ensure(&file().caches()[2], sizeof(abi::CacheRecord)));
  strcpy(file().caches()[2].name, "malloc-32");
  const auto here = reinterpret_cast<uintptr_t>(&some) + 4;
  for (uintptr_t i = 1; i <= 30; ++i) {
    const uintptr_t frames[] = {here, 0x1000 + i};
    const uint32_t stack = depot().insert(frames, 2, 1, nullptr);
    ASSERT_NE(objects().add(0x10 * i, i * 100, stack, 2, i == 30 ? 524288u : 1u), 0u);
  }
  const std::string text = report(some);
  EXPECT_NE(text.find("3 objects, 96 bytes remain"), std::string::npos) << text;
  EXPECT_NE(text.find("malloc-32"), std::string::npos) << text;
  EXPECT_NE(text.find("3000 bytes in 1 objects sampled, about"), std::string::npos) << text;
  EXPECT_LT(text.find("3000 bytes"), text.find("2900 bytes"));
  EXPECT_EQ(text.find("    1000 bytes"), std::string::npos) << "twenty stacks are enough";
  EXPECT_NE(text.find("diag_tests+0x"), std::string::npos) << text;
  EXPECT_NE(text.find("0x101e\n"), std::string::npos) << "no module: the bare address";
}

TEST_F(ExitReportTest, NothingLeftIsOneLine) {
  const std::string text = report([](uint32_t, void*) { return CacheRemainder{}; });
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST_F(ExitReportTest, TargetsAreNamed) {
  EXPECT_EQ(open_report("stderr"), 2);
  close_report(2);
  EXPECT_GE(fcntl(2, F_GETFD), 0);
  EXPECT_EQ(open_report("/nonexistent/x"), -1);
  EXPECT_EQ(open_report(std::string(600, 'x').c_str()), -1);
}

}  // namespace
}  // namespace slabscope::diag
